"""Distances between what sites add to the model, from the factors alone: no d_out x d_in matrix is formed.

What a LoRA pair adds to a layer is the product B A. B and A apart say nothing about it: (B M, M^-1 A) adds
the same for every invertible M, so a site can move its factors as far as it likes and add the same as before,
or hardly move them and add the opposite. Rules that judge sites judge the product. Its inner products are

    <B1 A1, B2 A2>_F = trace((B2^T B1) (A1 A2^T))

two matrices of r x r, and distances follow from inner products: |X - Y|^2 = |X|^2 - 2 <X, Y> + |Y|^2. So the
distance of two sites' changes B_k A_k - B_0 A_0 is that of their products, whatever they started from.

LoRA multiplies the product by alpha / r. That is one number for all sites and pairs: it scales all distances
alike and decides nothing, so it is left out. Bounds that are given as a number are in units of B A.

An array that is no factor of a pair (a head, a model's own array, A or B that travels alone) is measured as
it is; squares of all pairs and arrays add up.

In float64 nothing overflows: float32 factors have products below 10^78, whose squares add up to less than
10^160. But it rounds, and a bad site may send factors whose product is small only because all but a little of
it cancels: what is left cannot be told from rounding, and may be anything. So what rounding can hide counts
as distance. To the square of every distance some 10^-11 of |B|^2 |A|^2 of both sides is added, which is
nothing beside what honest factors move in a round, and far away for factors that hide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import factor_b

Array64 = npt.NDArray[np.float64]
_BLOCK = 1 << 20  # numbers of an array that are in memory as float64 at once, for each site
_ROUNDING = 2.0**-48  # share of two squares below which their difference is rounding
_HIDDEN = 2.0**-36  # share of |B|^2 |A|^2 that rounding may hide, with room for what follows from distances


@dataclass(frozen=True, slots=True)
class Points:
    """What adapters add to the model, as points of which the inner products alone are known.

    ``inner``: (adapters, adapters). ``hidden``: of each the square that rounding may hide.
    """

    inner: Array64
    hidden: Array64

    def apart(self) -> Array64:
        """(adapters, adapters): how far each is from each other."""
        squares = np.diag(self.inner)
        found = _roots(
            squares[:, None] + squares[None, :],
            self.inner,
            self.hidden[:, None] + self.hidden[None, :],
        )
        np.fill_diagonal(found, 0.0)
        return found

    def from_mean(self, weights: Array64) -> Array64:
        """(adapters,): how far each is from their mean by ``weights``, which sum to 1."""
        # |X - M|^2 = |X|^2 - 2 <X, M> + |M|^2. A far point has a small weight, so nothing is lost in it.
        along = self.inner @ weights
        return _roots(np.diag(self.inner) + weights @ along, along, self.hidden)


@dataclass(frozen=True, slots=True)
class Pair:
    """Names of the two factors of one product: ``a`` of shape (rank, d_in), ``b`` of (d_out, rank)."""

    a: str
    b: str


def layout(shapes: Mapping[str, tuple[int, ...]]) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """(the pairs whose factors are both there, the names of all other arrays)."""
    pairs = []
    for name, shape in shapes.items():
        other = factor_b(name)
        if other is not None and len(shape) == 2 and shapes.get(other, ())[1:] == shape[:1]:
            pairs.append(Pair(name, other))
    of_pairs = {name for pair in pairs for name in (pair.a, pair.b)}
    return tuple(pairs), tuple(name for name in shapes if name not in of_pairs)


def points(adapters: Sequence[Adapter]) -> Points:
    """What ``adapters`` add to the model. Their shapes are equal and their values finite.

    One array of all adapters is looked at after the other.
    """
    shapes, num = adapters[0].shapes(), len(adapters)
    pairs, others = layout(shapes)
    inner, hidden = np.zeros((num, num)), np.zeros(num)
    for pair in pairs:
        rank = shapes[pair.a][0]
        right = np.concatenate([one.arrays[pair.a] for one in adapters]).astype(np.float64)
        left = np.concatenate([one.arrays[pair.b].T for one in adapters]).astype(np.float64)
        of_right, of_left = right @ right.T, left @ left.T
        # trace(X Y^T) is the sum of X * Y, entry by entry: here for all pairs of adapters at once.
        inner += (of_left * of_right).reshape(num, rank, num, rank).sum(axis=(1, 3))
        hidden += _HIDDEN * np.prod(
            [np.diag(x).reshape(num, rank).sum(axis=1) for x in (of_left, of_right)], 0
        )
    for name in others:
        flat = [one.arrays[name].reshape(-1) for one in adapters]
        for start in range(0, len(flat[0]), _BLOCK):
            part = np.stack([one[start : start + _BLOCK] for one in flat]).astype(np.float64)
            inner += part @ part.T
    return Points((inner + inner.T) / 2, hidden)


def _roots(sums: Array64, inner: Array64, hidden: Array64) -> Array64:
    """|X - Y| from |X|^2 + |Y|^2, <X, Y> and what rounding may hide."""
    squares = sums - 2.0 * inner
    found: Array64 = np.sqrt(np.where(squares > _ROUNDING * sums, squares, 0.0) + hidden)
    return found


def lower_median(values: Array64) -> float:
    """The middle one of ``values``; of an even number the lower of the two in the middle.

    Fewer than half of the values, wherever they lie, cannot bring it above all of the others.
    """
    return float(np.sort(values)[(len(values) - 1) // 2])
