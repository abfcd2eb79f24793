"""Means that count a site the less, the further it is away from them: the steps that find them.

    w_k  ~  a_k / max(near, |P_k - W|),   W = sum_k w_k P_k,   scaled to sum to 1

Where W stands still, the sites' pulls add up to nothing, each as long as its distance but ``near`` at most:
sum_k a_k min(1, near / |P_k - W|) (P_k - W) = 0. With a small ``near`` that is the geometric median, and the
steps are Weiszfeld's; with a larger one it is Huber's mean (Annals of Mathematical Statistics 35 (1964)
73-101, https://doi.org/10.1214/aoms/1177703732).

With one ``near`` for all steps each brings W nearer. Where it follows the distances nothing proves that they
end; with random sites they did, after a hundred at most unless almost half of the sites were bad.

Every W on the way is a mean of the sites', so that all is done on the matrix of their inner products
(``products.py``) and costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedmedlora.aggregation.products import Array64, Points, lower_median

NEVER_ZERO = 1e-300  # distance of points that are the same
_MOST_STEPS = 2000
_STANDS_STILL = 1e-9  # largest change of a weight in a step, as a share of it: a far point's is small


def from_the_others(where: Points) -> Array64:
    """(points,): how far the middle one of all others is from each. Fewer than half cannot make it small for
    those that are far from the rest, nor large for the rest."""
    others = [np.delete(row, i) for i, row in enumerate(where.apart())]
    return np.array([lower_median(row) if len(row) else 0.0 for row in others])


def settled_weights(
    where: Points, parts: Array64, apart: Array64, near: Callable[[Array64], float]
) -> Array64:
    """The weights, summing to 1, that stand still at the points ``where``, or those of the last step.

    ``parts``: a_k, above 0. ``apart``: how far away each is taken to be at first: not from the mean, which
    a bad site has moved, but as ``from_the_others`` has it. ``near``: of distances, above 0.
    """
    weights = _scaled(parts / np.maximum(apart, near(apart)))
    for _ in range(_MOST_STEPS):
        apart = where.from_mean(weights)
        following = _scaled(parts / np.maximum(apart, near(apart)))
        still = np.abs(following - weights) <= _STANDS_STILL * weights
        weights = following
        if still.all():
            break
    return weights


def _scaled(raw: Array64) -> Array64:
    shared: Array64 = raw / raw.max()
    found: Array64 = shared / shared.sum()
    return found
