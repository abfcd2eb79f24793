"""Paired permutation test of two methods' mean F1, and Holm's correction for testing several pairs.

If it does not matter which of two methods read a note, their counts of it may as well be swapped. The test
swaps the counts of notes at random, all seeds of a note together, and asks how often the methods then differ
as much as they did.

Sources: Noreen, "Computer-Intensive Methods for Testing Hypotheses" (1989), approximate randomization; Yeh,
"More accurate tests for the statistical significance of result differences", COLING 2000,
https://aclanthology.org/C00-2137 (for F1, whose parts depend on each other); Phipson and Smyth, "Permutation
p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9(1), 2010, https://arxiv.org/abs/1603.05766
(the + 1). Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979,
https://www.jstor.org/stable/4615733. Departure: notes on which two methods count the same are not swapped,
for that changes nothing, and all permutations are tried more often for it.

What a small p does not say: the test is about the models that were trained, on notes like these. Two methods
that are equally good on average differ through the chance of their seeds, and with enough notes the test sees
that (tests/evaluation/test_permutation.py has an example: a p below 0.05 in a third of the studies). Whether
other seeds would give the same order, ``seeds.difference_interval`` says, as far as the number of seeds
allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fedmedlora.evaluation.seeds import Cells, check_cells, mean_f1_of_cohorts, sides

_MAX_SWAPS = 1 << 20  # decisions to swap a note held at once: 8 MiB
_TINY = 1e-12  # differences that are equal but for rounding


def paired_permutation(
    a: Sequence[Cells],
    b: Sequence[Cells],
    *,
    rng: np.random.Generator,
    num_permutations: int = 10_000,
) -> float:
    """Two-sided p of the difference in mean F1 (over cohorts and seeds) between two methods.

    p = (1 + permutations that differ as much) / (1 + ``num_permutations``). With n notes on which the methods
    differ, all 2^n permutations are tried when they are no more than ``num_permutations``; p is then exact,
    and never below 2 / 2^n. 1 where there is nothing to compare: no cohort, no note, or F1 is undefined.

    Raises ``ValueError`` as ``seeds.check_cells``, and when ``num_permutations`` is below 1.
    """
    if num_permutations < 1:
        raise ValueError(f"num_permutations must be 1 or more, got {num_permutations}")
    check_cells(a, b)
    if mean_f1_of_cohorts(a) is None or mean_f1_of_cohorts(b) is None:
        return 1.0
    pairs = [(sides(one), sides(other)) for one, other in zip(a, b, strict=True)]
    num_notes = sum(int(_differ(*pair).sum()) for pair in pairs)
    observed = abs(_differences(pairs, np.zeros((1, num_notes)))[0])
    exact = 2**num_notes <= num_permutations
    swaps = _all_swaps(num_notes) if exact else _random_swaps(num_notes, num_permutations, rng)
    as_far = sum(int((np.abs(_differences(pairs, block)) >= observed - _TINY).sum()) for block in swaps)
    return as_far / 2**num_notes if exact else (1 + as_far) / (1 + num_permutations)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p in the order given: those below 0.05 are significant together, at 5 % for the family.

    The k-th smallest of m is multiplied by m - k + 1; none ends below a smaller one's, or above 1.

    Raises ``ValueError`` when a p is not from 0 to 1.
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"p must be from 0 to 1, got {p}")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


_Pair = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]  # the sides of one cohort under a and under b


def _differences(pairs: Sequence[_Pair], swaps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(rows,): the mean difference after each row of ``swaps``, (rows, notes that differ), 0 or 1."""
    total = np.zeros(len(swaps))
    done = 0
    for mine, theirs in pairs:
        moved = (mine - theirs)[:, _differ(mine, theirs)]  # (num_seeds, notes that differ, 2)
        num_seeds, num_notes, _ = moved.shape
        columns = moved.transpose(1, 0, 2).reshape(num_notes, 2 * num_seeds).astype(np.float64)
        shift = (swaps[:, done : done + num_notes] @ columns).reshape(-1, num_seeds, 2)
        done += num_notes
        f1_a, f1_b = _f1(mine.sum(axis=1) - shift), _f1(theirs.sum(axis=1) + shift)
        total += (f1_a - f1_b).mean(axis=1)
    return total / len(pairs)


def _f1(totals: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """F1 of (..., 2). 0 where nothing is counted: only a cohort without gold gets there, without a hit."""
    part, whole = totals[..., 0], totals[..., 1]
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _differ(mine: npt.NDArray[np.int64], theirs: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """(num_notes,): whether the two methods count a note differently under any seed."""
    return np.asarray((mine != theirs).any(axis=(0, 2)))


def _all_swaps(num_notes: int) -> Iterator[npt.NDArray[np.float64]]:
    """Every row of zeros and ones, some rows at a time."""
    rows = max(1, _MAX_SWAPS // max(1, num_notes))
    for done in range(0, 2**num_notes, rows):
        numbers = np.arange(done, min(done + rows, 2**num_notes))
        yield ((numbers[:, None] >> np.arange(num_notes)) & 1).astype(np.float64)


def _random_swaps(
    num_notes: int, num_permutations: int, rng: np.random.Generator
) -> Iterator[npt.NDArray[np.float64]]:
    """``num_permutations`` rows of fair coins, some rows at a time."""
    rows = max(1, _MAX_SWAPS // num_notes)
    for done in range(0, num_permutations, rows):
        coins = rng.random((min(rows, num_permutations - done), num_notes)) < 0.5
        yield coins.astype(np.float64)
