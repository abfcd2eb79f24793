"""Percentile bootstrap intervals: of micro-F1 over notes, and of a mean.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3, the percentile
interval. The unit that is drawn is the note, because the entities of one note depend on each other.

Departure: no interval over fewer than ``MIN_NOTES`` notes. Resampling stays within what was seen, and from
the least to the greatest of n independent values lies the median of their distribution with probability
1 - 2^(1-n): it is missed when all are above it, or all below, 2^(-n) each (the sign test's interval of a
median: Conover, "Practical Nonparametric Statistics", 3rd edition, 1999, section 3.2). Five values reach
93.75 % at most, six 96.9 %, and one gives an interval of no width. Six is also the least number of notes
whose paired permutation test can be significant (2^(1-6) = 0.03).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fedmedlora.evaluation.counts import Counts

MIN_NOTES = 6  # with anything to count: 1 - 2 ** (1 - n) is below 0.95 for fewer
_MAX_DRAWS = 1 << 20  # note indices held at once: 8 MiB


def f1_interval(
    per_note: Sequence[Counts],
    *,
    rng: np.random.Generator,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """(low, high) of micro-F1 when as many notes are drawn again, with replacement.

    ``None`` when fewer than ``MIN_NOTES`` notes have gold or predictions: one note says nothing about how
    notes differ, and a few say too little. Resamples without any gold or prediction have no F1 and are left
    out.

    Raises ``ValueError`` when ``num_resamples`` is below 1 or ``level`` is not between 0 and 1.
    """
    check_resampling(num_resamples, level)
    num_notes = len(per_note)
    if sum(counts.f1 is not None for counts in per_note) < MIN_NOTES:
        return None
    # (num_notes, 2): the two sides of F1 = 2tp / (2tp + fp + fn), both of which add
    sides = np.array([(2 * c.tp, 2 * c.tp + c.fp + c.fn) for c in per_note], dtype=np.int64)
    totals = np.concatenate(
        [sides[drawn].sum(axis=1) for drawn in draws(num_notes, num_resamples, rng)]
    )  # (num_resamples, 2)
    defined = totals[totals[:, 1] > 0]
    if not len(defined):  # few resamples, and none of them drew a note with anything in it
        return None
    return percentile_interval(defined[:, 0] / defined[:, 1], level)


def mean_interval(
    scores: Sequence[float], *, rng: np.random.Generator, num_resamples: int = 1000, level: float = 0.95
) -> tuple[float, float] | None:
    """(low, high) of the mean when as many scores are drawn again; ``None`` with fewer than
    ``MIN_NOTES``.

    Raises ``ValueError`` as ``f1_interval``.
    """
    check_resampling(num_resamples, level)
    if len(scores) < MIN_NOTES:
        return None
    values = np.asarray(scores, dtype=np.float64)
    means = np.concatenate([values[drawn].mean(axis=1) for drawn in draws(len(values), num_resamples, rng)])
    return percentile_interval(means, level)


def draws(num: int, num_resamples: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Indices below ``num``, (some resamples, num) at a time, ``num_resamples`` in all."""
    rows = max(1, _MAX_DRAWS // num)
    for done in range(0, num_resamples, rows):
        yield rng.integers(num, size=(min(rows, num_resamples - done), num))


def percentile_interval(resampled: npt.NDArray[np.float64], level: float) -> tuple[float, float]:
    """(low, high) of the middle ``level`` of at least one resampled score."""
    tail = (1 - level) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail))
    return float(low), float(high)


def check_resampling(num_resamples: int, level: float) -> None:
    """Raise ``ValueError`` when ``num_resamples`` is below 1 or ``level`` is not between 0 and 1."""
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be 1 or more, got {num_resamples}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}; a 95 % interval is 0.95")
