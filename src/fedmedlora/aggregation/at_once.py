"""The weighted mean of arrays that are all there: a plain sum, made exact where that could show.

The mean of one number is ``float32(float64(S) / float64(W))`` with ``S = sum of w_k * x_k``, each term
rounded to float64 by itself and their sum correctly rounded, and ``W = sum of w_k``. Here it is found in
plain float64 arithmetic, ``sum of (w_k / W) * x_k``. K terms added up in any order are wrong by (K - 1) 2^-53
of the sum of their sizes at most, to first order (Higham, Accuracy and Stability of Numerical Algorithms,
2002, section 4.2); the rounding of w_k / W and of the product, and on the other side of each term, of S and
of the division, by 2^-53 each. Where the nearest float32 is not the same throughout (twice) that bound, which
it is but for one number in some thousands, S is found exactly.

Cost: a float32 value is read once from memory and converted to float64, which numpy does with the narrowest
vector instructions; the weights are one matrix product over what is in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fedmedlora.aggregation.expansion import Expansion
from fedmedlora.aggregation.threads import in_parts

Array32 = npt.NDArray[np.float32]
Array64 = npt.NDArray[np.float64]
_BLOCK = 1 << 15  # numbers worked on at once (with fewer, threads wait for Python's lock), of
_TOGETHER = 16  # sites at once: in float64 they are about what a core's own cache holds
# The squares of smaller values may vanish in float32: at most _BLOCK of them, each below 2^-126.
_VANISHING = 2.0**-55
_LEAST_WRONG = 2.0**-200  # products that float64 itself cannot hold are wrong by less
_FEW = 256  # numbers whose exact sums are found one by one


def means_of(adapters: Sequence[Mapping[str, Array32]], weights: Sequence[float]) -> dict[str, Array32]:
    """Name -> the weighted mean of the arrays of that name, equal in shape and finite.

    ``weights`` are above 0 and add up to something between 2^-500 and 2^500.
    """
    total = total_of(weights)
    assert min(weights) > 0
    assert 2.0**-500 < total < 2.0**500
    shapes = {name: array.shape for name, array in adapters[0].items()}
    found = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}
    by = np.array(weights, np.float64)
    flat = {name: [one[name].reshape(-1) for one in adapters] for name in shapes}
    out = {name: array.reshape(-1) for name, array in found.items()}

    def work(room: _Room, name: str, start: int, stop: int) -> None:
        _part(room, [site[start:stop] for site in flat[name]], by, total, out[name][start:stop])

    in_parts(shapes, _Room, work, per_number=len(adapters))
    return found


def mean_of(arrays: Sequence[Array32], weights: Sequence[float]) -> Array32:
    """``means_of`` of a single name."""
    return means_of([{"": array} for array in arrays], weights)[""]


def total_of(weights: Sequence[float]) -> float:
    """Their sum, correctly rounded, whatever their order."""
    return float(sum(weights)) if all(isinstance(w, int) for w in weights) else math.fsum(weights)


class _Room:
    """What one thread works in."""

    def __init__(self) -> None:
        # Longer rows than needed: those a power of two apart would share a few lines of the cache.
        self.rows, self.sums = np.empty((_TOGETHER, _BLOCK + 64)), np.empty(_BLOCK)
        self.above = np.empty(_BLOCK, np.float32)


def _part(room: _Room, sites: Sequence[Array32], weights: Array64, total: float, out: Array32) -> None:
    shares = weights / total
    doubtful = []
    # Beside the largest float32 the other side may be infinite; so may squares.
    with np.errstate(over="ignore"):
        for start in range(0, len(out), _BLOCK):
            block = out[start : start + _BLOCK]
            plain, above = room.sums[: len(block)], room.above[: len(block)]
            bound = _plain_sum([site[start : start + _BLOCK] for site in sites], shares, room.rows, plain)
            wrong = 2.0 * (len(sites) + 6) * 2.0**-53 * (bound + _VANISHING) + _LEAST_WRONG
            np.subtract(plain, wrong, out=block, casting="same_kind")
            np.add(plain, wrong, out=above, casting="same_kind")
            # As bits: -0.0 is not 0.0, and a plain sum does not know which it is.
            doubtful.append(start + np.flatnonzero(block.view(np.int32) != above.view(np.int32)))
    everywhere = np.concatenate(doubtful)
    for start in range(0, len(everywhere), _BLOCK):
        places = everywhere[start : start + _BLOCK]
        terms = np.stack([site[places] for site in sites]).astype(np.float64) * weights[:, None]
        out[places] = (_exact_sums(terms) / total).astype(np.float32)


def _plain_sum(blocks: Sequence[Array32], shares: Array64, rows: Array64, out: Array64) -> float:
    """The weighted sum into ``out``; a bound of ``sum of share * |value|`` of any number of the block."""
    bound = 0.0
    for start in range(0, len(blocks), _TOGETHER):
        group, by = blocks[start : start + _TOGETHER], shares[start : start + _TOGETHER]
        some = rows[: len(group), : len(out)]
        for row, block, share in zip(some, group, by.tolist(), strict=True):
            # No value is larger than the root of all squares. First, for it reads memory faster than copying.
            bound += share * math.sqrt(np.dot(block, block))
            np.copyto(row, block)
        if start:
            np.add(out, np.matmul(by, some), out=out)
        else:
            np.matmul(by, some, out=out)
    return bound


def _exact_sums(terms: Array64) -> Array64:
    """The sums over sites of ``terms``, of shape (sites, numbers), correctly rounded."""
    num_numbers = terms.shape[1]
    if num_numbers > _FEW:
        exact = Expansion(num_numbers)
        for term in terms:
            exact.add(term)
        return exact.total()
    found = np.array([math.fsum(column) for column in terms.T.tolist()])
    found[(found == 0.0) & np.signbit(terms).all(axis=0)] = -0.0
    return found
