"""Whether the confidence of predicted mentions can be trusted: calibration, and recall by threshold.

Input everywhere: ``confidence`` (num_mentions,) from 0 to 1, and ``right`` (num_mentions,) of booleans, such
as ``right_or_wrong`` gives, each for one predicted mention, in any order.

Sources: expected calibration error: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities
using Bayesian binning", AAAI 2015, https://doi.org/10.1609/aaai.v29i1.9602; Guo et al., "On calibration of
modern neural networks", ICML 2017, equations 1 to 3, https://arxiv.org/abs/1706.04599 (bins open below,
closed above; 15 of them). Average precision: Manning, Raghavan and Schütze, "Introduction to Information
Retrieval" (2008), section 8.4, https://nlp.stanford.edu/IR-book/: what is never found adds nothing, and
nothing is interpolated. Departure: mentions of one confidence stand or fall together, so their order changes
nothing.

Calibration is about what was predicted: it does not see the gold mentions that nobody predicted, which recall
does. With few mentions a bin's share is chance, and the calibration error comes out too large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedmedlora.corpora.note import Note
from fedmedlora.evaluation.score import check_same_text

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The mentions whose confidence is above ``low`` and at most ``high`` (the first bin holds 0 too).

    ``mean_confidence`` and ``share_right`` are None when there are none.
    """

    low: float
    high: float
    num_mentions: int
    mean_confidence: float | None
    share_right: float | None


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Row i of each array: mentions of confidence ``thresholds[i]`` or more are kept, and no others.

    ``thresholds`` are the confidences that occur, each once, descending; recall therefore never falls.
    """

    thresholds: Floats  # (num_thresholds,)
    precision: Floats
    recall: Floats


def reliability_bins(confidence: Floats, right: Booleans, *, num_bins: int = 15) -> list[ReliabilityBin]:
    """``num_bins`` bins of equal width from 0 to 1, empty ones included.

    Raises ``ValueError``: arrays of different lengths, a confidence outside 0 to 1, ``right`` not of
    booleans, ``num_bins`` below 1.
    """
    _check(confidence, right)
    if num_bins < 1:
        raise ValueError(f"num_bins must be 1 or more, got {num_bins}; 15 is usual")
    edges = np.arange(num_bins + 1) / num_bins
    bin_of = np.searchsorted(edges[1:], confidence, side="left")
    num = np.bincount(bin_of, minlength=num_bins)
    confidences = np.bincount(bin_of, weights=confidence, minlength=num_bins)
    rights = np.bincount(bin_of, weights=right, minlength=num_bins)
    return [
        ReliabilityBin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            num_mentions=int(num[i]),
            mean_confidence=float(confidences[i] / num[i]) if num[i] else None,
            share_right=float(rights[i] / num[i]) if num[i] else None,
        )
        for i in range(num_bins)
    ]


def expected_calibration_error(confidence: Floats, right: Booleans, *, num_bins: int = 15) -> float | None:
    """Mean over mentions of how far their bin's mean confidence is from its share of right ones, 0 to 1.

    None without mentions. Raises ``ValueError`` as ``reliability_bins``.
    """
    gaps = [
        each.num_mentions * abs(each.mean_confidence - each.share_right)
        for each in reliability_bins(confidence, right, num_bins=num_bins)
        if each.mean_confidence is not None and each.share_right is not None
    ]
    return sum(gaps) / len(confidence) if gaps else None


def precision_recall_curve(confidence: Floats, right: Booleans, *, num_gold: int) -> PrecisionRecall | None:
    """Precision and recall at every threshold. Recall is over all ``num_gold``, predicted or not.

    None without gold, where recall is undefined; empty without mentions. Raises ``ValueError`` as
    ``reliability_bins``, and when more mentions are right than there are gold ones.
    """
    _check(confidence, right)
    if num_gold < int(right.sum()):
        raise ValueError(
            f"num_gold must be at least the number of right mentions, {int(right.sum())}, got {num_gold}; "
            "count every gold mention, those that were not predicted too"
        )
    if num_gold == 0:
        return None
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    last = np.flatnonzero(np.diff(ordered, append=-1.0))  # of each run of equals
    num_right = np.cumsum(right[order])[last]
    return PrecisionRecall(ordered[last], num_right / (last + 1), num_right / num_gold)


def average_precision(confidence: Floats, right: Booleans, *, num_gold: int) -> float | None:
    """Sum over thresholds of precision times the recall gained there, 0 to 1; 0 without mentions.

    None without gold. Raises ``ValueError`` as ``precision_recall_curve``.
    """
    curve = precision_recall_curve(confidence, right, num_gold=num_gold)
    return None if curve is None else float(np.sum(curve.precision * np.diff(curve.recall, prepend=0.0)))


def right_or_wrong(gold_note: Note, predicted_note: Note) -> dict[str, bool]:
    """Id of each scored predicted entity -> whether gold has one of its type and span.

    As ``score`` counts: only types that gold annotates, and of entities with the same type and span the first
    alone (put the most confident first, if they differ). So the right ones are the strict tp, the wrong ones
    the fp.

    Raises ``ValueError``: notes with different ids or texts, two scored entities with one id.
    """
    if gold_note.id != predicted_note.id:
        raise ValueError(
            f"gold note {gold_note.id!r} and predicted note {predicted_note.id!r} differ; match them by id"
        )
    check_same_text(gold_note, predicted_note)
    wanted = {(entity.type, entity.span) for entity in gold_note.entities}
    seen = set()
    found: dict[str, bool] = {}
    for entity in predicted_note.entities:
        item = (entity.type, entity.span)
        if entity.type not in gold_note.annotates.entities or item in seen:
            continue
        if entity.id in found:
            raise ValueError(
                f"predicted note {gold_note.id!r} uses the id {entity.id!r} for several entities; "
                "every id must be unique"
            )
        seen.add(item)
        found[entity.id] = item in wanted
    return found


def num_gold_entities(gold_note: Note) -> int:
    """``num_gold`` of one note for ``right_or_wrong``: annotated types, every type and span once."""
    annotated = gold_note.annotates.entities
    return len({(entity.type, entity.span) for entity in gold_note.entities if entity.type in annotated})


def _check(confidence: Floats, right: Booleans) -> None:
    if confidence.ndim != 1 or confidence.shape != right.shape:
        raise ValueError(
            f"confidence and right must be one row each, of the same length, "
            f"got the shapes {confidence.shape} and {right.shape}"
        )
    if right.dtype != np.bool_:
        raise ValueError(f"right must be of booleans, got {right.dtype}")
    outside = confidence[~((confidence >= 0) & (confidence <= 1))]  # nan is outside too
    if len(outside):
        raise ValueError(f"confidence must be from 0 to 1, got {outside[0]}; give probabilities, not logits")
