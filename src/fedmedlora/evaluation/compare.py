"""Methods against each other, and one method over cohorts: the records that a table prints.

Every pair of methods is tested, so the p values are adjusted for how many they are (Holm; see
``permutation``). The interval is not adjusted, and it counts the chance of seeds, which p does not; ``seeds``
and ``permutation`` say what each of the two means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from fedmedlora.evaluation.permutation import holm, paired_permutation
from fedmedlora.evaluation.seeds import (
    Cells,
    check_cells,
    difference_interval,
    f1_by_seed,
    f1_interval_over_seeds,
    mean,
    mean_f1,
    mean_f1_of_cohorts,
)

_SIGNIFICANT = 0.05  # share of families of tests in which a difference is seen where there is none


def compare_methods(
    by_method: Mapping[str, Sequence[Cells]],
    *,
    rng: np.random.Generator,
    num_resamples: int = 1000,
    num_permutations: int = 10_000,
) -> list[dict[str, Any]]:
    """One record per pair of methods, in the order of ``by_method``: first with second, first with third...

    Keys: ``a``, ``b`` (names), ``difference`` (mean F1 of a less that of b; None where undefined),
    ``interval`` ([low, high] at 95 %, or None), ``p``, ``p_holm`` (over all pairs), ``significant`` (p_holm
    below 0.05).

    Raises ``ValueError`` as ``seeds.check_cells``, ``seeds.difference_interval`` and
    ``permutation.paired_permutation``.
    """
    check_cells(*by_method.values())
    records = []
    for (name_a, a), (name_b, b) in combinations(by_method.items(), 2):
        mean_a, mean_b = mean_f1_of_cohorts(a), mean_f1_of_cohorts(b)
        interval = difference_interval(a, b, rng=rng, num_resamples=num_resamples)
        records.append(
            {
                "a": name_a,
                "b": name_b,
                "difference": None if mean_a is None or mean_b is None else mean_a - mean_b,
                "interval": None if interval is None else list(interval),
                "p": paired_permutation(a, b, rng=rng, num_permutations=num_permutations),
            }
        )
    return holm_over(records)


def holm_over(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Copies of ``records`` with ``p_holm`` and ``significant`` over all of them: one family of tests.

    For records of several calls of ``compare_methods`` that are read as one table, such as those of entities
    and of modifiers.
    """
    listed = list(records)
    adjusted = holm([record["p"] for record in listed])
    return [
        {**record, "p_holm": p, "significant": p < _SIGNIFICANT}
        for record, p in zip(listed, adjusted, strict=True)
    ]


def mean_over_cohorts(
    by_cohort: Mapping[str, Cells], *, rng: np.random.Generator | None, num_resamples: int = 1000
) -> dict[str, Any]:
    """One method over cohorts, each of which counts the same, whatever its size.

    Keys: ``num_cohorts``; ``f1`` (mean over cohorts and seeds); ``interval`` ([low, high] of it at 95 %, as
    ``seeds.f1_interval_over_seeds``; None without ``rng``); ``f1_by_seed`` (each the mean over cohorts);
    ``worst_cohort`` and ``worst_f1``: the cohort whose mean over seeds is lowest, the first of equals. None
    where undefined; a cohort without F1 leaves ``f1`` undefined and is not the worst.

    Raises ``ValueError`` as ``seeds.f1_interval_over_seeds``.
    """
    cohorts = list(by_cohort.values())
    check_cells(cohorts)
    interval = None
    if rng is not None:
        interval = f1_interval_over_seeds(cohorts, rng=rng, num_resamples=num_resamples)
    scores = {name: f1 for name, cells in by_cohort.items() if (f1 := mean_f1(cells)) is not None}
    worst = min(scores, key=scores.__getitem__, default=None)
    return {
        "num_cohorts": len(cohorts),
        "f1": mean_f1_of_cohorts(cohorts),
        "interval": None if interval is None else list(interval),
        "f1_by_seed": [mean(of_seed) for of_seed in zip(*map(f1_by_seed, cohorts), strict=True)],
        "worst_cohort": worst,
        "worst_f1": None if worst is None else scores[worst],
    }
