"""Means that count a site the less, the further it is away from them: the steps that find them.

    w_k  ~  a_k / max(least, |P_k - W|),   W = sum_k w_k P_k,   scaled to sum to 1

until nothing moves. At the end W is where the sites' pulls add up to nothing, each as long as its distance
but ``least`` at most: sum_k a_k min(1, least / |P_k - W|) (P_k - W) = 0. With a small ``least`` that is the
geometric median, and the steps are Weiszfeld's; with one that most sites are within it is Huber's mean
(Annals of Mathematical Statistics 35 (1964) 73-101, https://doi.org/10.1214/aoms/1177703732).

Every W on the way is a mean of the sites', so that all is done on the matrix of their inner products
(``products.py``) and costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedmedlora.aggregation.products import Array64, Points

_MOST_STEPS = 200
_STANDS_STILL = 1e-9  # largest change of a weight in a step, as a share of it: a far point's is small
NEVER_ZERO = 1e-300  # distance of points that are the same


def settled(where: Points, parts: Array64, apart: Array64, least: Callable[[Array64], float]) -> Array64:
    """The weights that stand still, summing to 1, of the points ``where``.

    ``parts``: a_k, above 0. ``apart``: how far each point is from where the search starts. ``least``: of the
    distances of a step, above 0.
    """
    weights = _scaled(parts / np.maximum(apart, least(apart)))
    for _ in range(_MOST_STEPS):
        apart = where.from_mean(weights)
        following = _scaled(parts / np.maximum(apart, least(apart)))
        still = np.abs(following - weights) <= _STANDS_STILL * weights
        weights = following
        if still.all():
            break
    return weights


def _scaled(raw: Array64) -> Array64:
    shared: Array64 = raw / raw.max()
    found: Array64 = shared / shared.sum()
    return found
