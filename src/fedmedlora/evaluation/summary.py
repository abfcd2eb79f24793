"""Counts per note -> the numbers that are printed and written to ``results.json``.

``evaluate`` is what ``fedmedlora evaluate GOLD PRED --json`` prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fedmedlora.corpora.note import Note
from fedmedlora.evaluation.bootstrap import f1_interval
from fedmedlora.evaluation.counts import Counts, TypedCounts, add_up
from fedmedlora.evaluation.score import Agreement, score_notes


def evaluate(
    gold: Iterable[Note], predicted: Iterable[Note], *, rng: np.random.Generator | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """``{"entities"|"modifiers"|"links": {"strict"|"lenient": numbers}}``, matched by note id.

    The order of either side changes nothing. ``rng`` as in ``summarize``; errors as in
    ``score.score_notes``, and a predicted id twice.
    """
    by_id: dict[str, Note] = {}
    for note in predicted:
        if note.id in by_id:
            raise ValueError(f"predictions hold several notes with the id {note.id!r}; ids must be unique")
        by_id[note.id] = note
    scores = score_notes(gold, by_id)
    return {
        "entities": summarize([score.entities for score in scores], rng=rng),
        "modifiers": summarize([score.modifiers for score in scores], rng=rng),
        "links": summarize([score.links for score in scores], rng=rng),
    }


def summarize(
    per_note: Sequence[Agreement],
    *,
    rng: np.random.Generator | None = None,
    num_resamples: int = 1000,
) -> dict[str, dict[str, Any]]:
    """``{"strict": numbers, "lenient": numbers}`` of one kind of item over some notes.

    ``numbers``: ``tp``, ``fp``, ``fn``, ``precision``, ``recall``, ``f1`` (micro), ``macro_f1``,
    ``interval`` (``[low, high]`` of micro-F1 at 95 %, by bootstrap over notes) and ``per_type``: the
    first six per scored type. ``None`` where undefined. Without ``rng`` no interval is computed.
    """
    return {
        "strict": _numbers([agreement.strict for agreement in per_note], rng, num_resamples),
        "lenient": _numbers([agreement.lenient for agreement in per_note], rng, num_resamples),
    }


def _numbers(
    per_note: Sequence[TypedCounts], rng: np.random.Generator | None, num_resamples: int
) -> dict[str, Any]:
    total = add_up(per_note)
    micro = [counts.micro() for counts in per_note]
    interval = None if rng is None else f1_interval(micro, rng=rng, num_resamples=num_resamples)
    return {
        **_six(total.micro()),
        "macro_f1": total.macro_f1(),
        "interval": None if interval is None else list(interval),
        "per_type": {name: _six(total.per_type[name]) for name in sorted(total.per_type)},
    }


def _six(counts: Counts) -> dict[str, int | float | None]:
    return {
        "tp": counts.tp,
        "fp": counts.fp,
        "fn": counts.fn,
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
    }
