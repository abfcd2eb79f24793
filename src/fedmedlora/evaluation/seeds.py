"""Micro-F1 over several seeds and cohorts: its mean, and bootstrap intervals that draw seeds and notes.

A method is trained once per seed, and every trained model reads the same notes: seeds and notes are crossed.
Both are drawn again, seeds once for all cohorts (a seed is one trained model) and notes within each cohort,
the same for all seeds. The statistic is the mean, over cohorts and drawn seeds, of micro-F1.

Sources: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007,
https://doi.org/10.1214/07-AOAS122 (two crossed factors, each drawn again by itself; the variance comes out
somewhat too large when there are many of both); Sellam et al., "The MultiBERTs", ICLR 2022, "The
Multi-Bootstrap", https://arxiv.org/abs/2106.16163 (the same over seeds and test examples, with the same draws
for two methods). Departures: F1 of the drawn notes in place of a mean of losses, and several cohorts, whose
notes are drawn apart.

What few seeds can tell. Where seeds differ much more than notes do, the interval of three seeds is the one
from the worst seed to the best (each is drawn three times in 1/27 of the resamples, more than the 2.5 % of a
tail). Such a 95 % interval holds the true mean in 1 - 2 * (1/2)^3 = 75 % of studies; with 5, 10 and 20
normally distributed seeds in 84, 89 and 93 %. One seed says nothing about seeds: its interval is that of
notes. Where notes differ more than seeds, which is so in small test sets, three seeds do little harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from fedmedlora.evaluation.bootstrap import MIN_NOTES, check_resampling, draws, percentile_interval
from fedmedlora.evaluation.counts import Counts

# (num_seeds, num_notes, 3): tp, fp, fn of each note under each seed, of one method on one cohort
Cells = npt.NDArray[np.int64]


def cells_of(by_seed: Sequence[Sequence[Counts]]) -> Cells:
    """Counts per seed and note as an array. The notes must be the same, in the same order, for every seed.

    Raises ``ValueError`` without a seed, and when the seeds do not have equally many notes.
    """
    lengths = sorted({len(per_note) for per_note in by_seed})
    if len(lengths) != 1:
        raise ValueError(
            f"seeds must be at least one, all with the same notes, got {len(by_seed)} seeds with "
            f"{lengths} notes; score every seed on the same test notes"
        )
    rows = [[(c.tp, c.fp, c.fn) for c in per_note] for per_note in by_seed]
    return np.array(rows, dtype=np.int64).reshape(len(by_seed), lengths[0], 3)


def f1_by_seed(cells: Cells) -> list[float | None]:
    """Micro-F1 over the notes, under each seed; None under a seed with nothing to count.

    Raises ``ValueError`` as ``check_cells``.
    """
    check_cells([cells])
    totals = sides(cells).sum(axis=1)  # (num_seeds, 2)
    return [float(part / whole) if whole else None for part, whole in totals]


def mean_f1(cells: Cells) -> float | None:
    """Mean over seeds of micro-F1; None unless F1 is defined under every seed.

    Raises ``ValueError`` as ``check_cells``.
    """
    return mean(f1_by_seed(cells))


def mean_f1_of_cohorts(cohorts: Sequence[Cells]) -> float | None:
    """Mean over cohorts of ``mean_f1``: each counts the same, whatever its size. None without a cohort."""
    check_cells(cohorts)
    return mean(mean_f1(cells) for cells in cohorts)


def mean(values: Iterable[float | None]) -> float | None:
    """The mean; None when there is none, or one of them is None."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    return sum(known) / len(known) if known and len(known) == len(listed) else None


def f1_interval_over_seeds(
    cohorts: Sequence[Cells], *, rng: np.random.Generator, num_resamples: int = 1000, level: float = 0.95
) -> tuple[float, float] | None:
    """(low, high) of ``mean_f1_of_cohorts`` when seeds and notes are drawn again, with replacement.

    Every cohort holds the same seeds in the same order. With one seed and one cohort this is
    ``bootstrap.f1_interval``, number for number. ``None`` without a cohort, where the mean itself is
    undefined, and when in some cohort fewer than ``bootstrap.MIN_NOTES`` notes have gold or, under any seed,
    predictions: a mean is no surer than what it is made of. Resamples without gold and prediction in some
    cohort, under a seed that they drew, have no mean and are left out.

    Raises ``ValueError`` as ``check_cells`` and ``bootstrap.f1_interval``.
    """
    check_resampling(num_resamples, level)
    if not _has_interval(cohorts):
        return None
    return _interval(_resampled([cohorts], num_resamples, rng)[:, 0], level)


def difference_interval(
    a: Sequence[Cells],
    b: Sequence[Cells],
    *,
    rng: np.random.Generator,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """(low, high) of ``mean_f1_of_cohorts(a) - mean_f1_of_cohorts(b)``, both from the same draws.

    Seed number i of ``a`` is paired with seed number i of ``b``, note with note and cohort with cohort.
    ``None`` as in ``f1_interval_over_seeds``, for either method; errors too.
    """
    check_resampling(num_resamples, level)
    check_cells(a, b)
    if not (_has_interval(a) and _has_interval(b)):
        return None
    means = _resampled([a, b], num_resamples, rng)
    return _interval(means[:, 0] - means[:, 1], level)


def sides(cells: Cells) -> npt.NDArray[np.int64]:
    """(num_seeds, num_notes, 2): 2tp and 2tp + fp + fn, whose sums over notes are the two sides of F1."""
    twice = 2 * cells[..., 0]
    return np.stack([twice, twice + cells[..., 1] + cells[..., 2]], axis=-1)


def check_cells(*methods: Sequence[Cells]) -> None:
    """Check the cohorts of one method, or of several that are compared with each other.

    Raises ``ValueError``: an array that is not (at least one seed, notes, 3) of whole numbers from 0; seeds
    that are not equally many everywhere; cohorts or notes that methods do not share; gold items of a note (tp
    + fn) that depend on seed or method, so that its place holds different notes.
    """
    if len({len(cohorts) for cohorts in methods}) > 1:
        raise ValueError(
            f"methods must be compared on the same cohorts, got {[len(c) for c in methods]} cohorts; "
            "leave out the cohorts that some method was not evaluated on"
        )
    for cells in (cells for cohorts in methods for cells in cohorts):
        _check_array(cells)
    num_seeds = sorted({len(cells) for cohorts in methods for cells in cohorts})
    if len(num_seeds) > 1:
        raise ValueError(
            f"every cohort and method must have the same seeds, got {num_seeds} of them; keep the seeds that "
            "all have, or repeat the only one of a method without chance (numpy.repeat)"
        )
    for number, cohort in enumerate(zip(*methods, strict=True), start=1):
        num_notes = sorted({cells.shape[1] for cells in cohort})
        if len(num_notes) > 1:
            raise ValueError(f"cohort number {number}: methods must share its notes, got {num_notes} notes")
        num_gold = np.concatenate([cells[..., 0] + cells[..., 2] for cells in cohort])
        differ = np.flatnonzero((num_gold != num_gold[0]).any(axis=0))
        if len(differ):
            found = sorted(set(num_gold[:, differ[0]].tolist()))
            raise ValueError(
                f"cohort number {number}, note number {differ[0] + 1}: its gold items (tp + fn) are {found}, "
                "but gold depends on neither seed nor method; give the same notes in the same order for all"
            )


def _check_array(cells: Cells) -> None:
    if cells.ndim != 3 or cells.shape[2] != 3 or not len(cells):
        raise ValueError(f"cells must be (seeds, notes, 3) with a seed or more, got the shape {cells.shape}")
    if not np.issubdtype(cells.dtype, np.signedinteger):
        raise ValueError(f"cells must be counts of type int64, got {cells.dtype}")
    if cells.size and cells.min() < 0:
        raise ValueError(f"counts must be 0 or more, got {cells.min()}")


def _has_interval(cohorts: Sequence[Cells]) -> bool:
    if mean_f1_of_cohorts(cohorts) is None:
        return False
    return min(int(cells.any(axis=(0, 2)).sum()) for cells in cohorts) >= MIN_NOTES


def _interval(resampled: npt.NDArray[np.float64], level: float) -> tuple[float, float] | None:
    defined = resampled[~np.isnan(resampled)]
    return percentile_interval(defined, level) if len(defined) else None


def _resampled(
    methods: Sequence[Sequence[Cells]], num_resamples: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """(num_resamples, num_methods): the mean F1 of each method under the same draws; nan where undefined."""
    num_methods, num_seeds = len(methods), len(methods[0][0])
    per_cohort = []
    for cohort in zip(*methods, strict=True):  # the cells of one cohort, under each method
        totals = _drawn_totals(np.concatenate([sides(cells) for cells in cohort]), num_resamples, rng)
        part, whole = totals[..., 0], totals[..., 1]
        per_cohort.append(np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0))
    # A seed is drawn for all cohorts at once, so the mean over cohorts may come first.
    f1 = np.mean(per_cohort, axis=0).reshape(num_resamples, num_methods, num_seeds)
    # Seeds are drawn after the notes: with one cohort, the notes are then those of f1_interval.
    drawn_seeds = rng.integers(num_seeds, size=(num_resamples, 1, num_seeds))
    return np.asarray(np.take_along_axis(f1, drawn_seeds, axis=2).mean(axis=2))


def _drawn_totals(
    per_note: npt.NDArray[np.int64], num_resamples: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Sums over drawn notes: (rows, num_notes, 2) -> (num_resamples, rows, 2), whole numbers as floats.

    A resample is how often it drew each note, so the sums are one product of matrices.
    """
    num_rows, num_notes, _ = per_note.shape
    columns = per_note.transpose(1, 0, 2).reshape(num_notes, -1).astype(np.float64)
    blocks = []
    for drawn in draws(num_notes, num_resamples, rng):
        places = drawn + num_notes * np.arange(len(drawn))[:, None]
        times = np.bincount(places.ravel(), minlength=drawn.size).reshape(drawn.shape)
        blocks.append(times.astype(np.float64) @ columns)
    return np.concatenate(blocks).reshape(num_resamples, num_rows, 2)
