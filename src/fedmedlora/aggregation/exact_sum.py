"""A sum of float32 arrays with weights, exact: no order of adding can change a bit of it.

Every term ``t = weight * value`` is rounded to float64 once, by itself; from there nothing is lost. A block
of numbers shares a grid of spacing ``2^g``, and each term is cut at it: the part that is a whole number of
spacings is added to ``high``, what is left, at most half a spacing, to ``low``:

    r = RN(RN(t + a) - a)  with the anchor a = 1.5 * 2^(g+52),   high = high + r,   low = low + (t - r)

The last bit of ``a`` is the spacing, so that adding it rounds ``t`` to the grid; ``r`` and ``t - r`` are
exact. This is the extraction of Demmel and Nguyen, "Parallel Reproducible Summation", IEEE Transactions on
Computers 64, 2015, https://doi.org/10.1109/TC.2014.2345391, section 3, with two bins. Departs in the grid,
which is a block's own and grows with the sum, and in that nothing at all is lost:

* ``high`` is exact while the terms' sizes add up to less than 2^(g+50). Before they do not, g is raised, and
  what falls below the new spacing goes over to ``low``.
* ``low`` is exact while its n parts of half a spacing fit into 53 bits above the last bit of any term. Where
  they might not, the block goes on in the plain way (``expansion.py``).

So ``total`` is the true sum correctly rounded to float64, whatever the order. Trained numbers hardly ever
need the plain way: with a thousand sites of a million tokens each it takes a value, not 0, that is 10^11
times smaller than the largest one in its block.

Cost: ten passes over a term's block, which stays in the processor's cache; 16 bytes a number, or 8 where
no term ever falls below the spacing, as with values of few bits (bfloat16).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fedmedlora.aggregation.expansion import Expansion

Array32 = npt.NDArray[np.float32]
Array64 = npt.NDArray[np.float64]
BLOCK = 1 << 15  # numbers that share a grid; with fewer, threads wait for Python's lock
_ROOM_BITS = 6  # by which the sum may grow before the grid does; the more, the more goes to ``low``
_FURTHEST = 900  # a grid beyond 2^-900 or 2^900 comes too near the ends of float64


class Scratch:
    """Room that one thread needs for adding to blocks."""

    def __init__(self) -> None:
        """Used again and again: memory that is new to the process is slow."""
        self.sizes, self.term, self.part = np.empty(BLOCK, np.float32), np.empty(BLOCK), np.empty(BLOCK)


class ExactBlock:
    """``sum of weight * values``, ``BLOCK`` numbers at most. Of nothing, and of -0.0 alone, it is -0.0."""

    __slots__ = ("_grid", "_high", "_last_bit", "_low", "_num_parts", "_plain", "_size", "_sizes")

    def __init__(self, size: int) -> None:
        """``size``: of every term, at least 1."""
        self._size = size
        self._high: Array64 | None = None
        self._low: Array64 | None = None  # None: +0.0 everywhere, or nothing has been added
        self._plain: Expansion | None = None
        self._grid = 0  # g, from the first term on
        self._sizes = 0.0  # bound of what the terms' sizes add up to
        self._num_parts = 0  # that ``low`` was given, zeros among them
        self._last_bit = math.inf  # no term has a bit below it

    def add(self, values: Array32, weight: float, scratch: Scratch) -> None:
        """Add ``weight * values``; both finite, and ``weight`` above 0."""
        size, last_bit = _extent(values, weight, scratch.sizes[: self._size])
        term, part = scratch.term[: self._size], scratch.part[: self._size]
        np.copyto(term, values)
        np.multiply(term, weight, out=term)
        if self._plain is None and not self._fits(size, last_bit, part):
            self._plain, self._high, self._low = self._as_plain(), None, None
        if self._plain is not None:
            self._plain.add(term)
            return
        _cut(term, self._grid, part)
        np.subtract(term, part, out=term)
        if self._high is None:
            self._high = part.copy()
            self._low = term.copy() if _has_bits(term) else None
            return
        np.add(self._high, part, out=self._high)
        if self._low is not None:
            np.add(self._low, term, out=self._low)
        elif _has_bits(term):
            self._low = 0.0 + term

    def total(self) -> Array64:
        """The sum, correctly rounded to float64 (to the nearest, ties to even)."""
        if self._plain is not None:
            return self._plain.total()
        if self._high is None:
            return np.full(self._size, -0.0)
        if self._low is None:
            return self._high.copy()
        return np.where(self._high == 0.0, self._low, self._high + self._low)  # 0.0 + -0.0 would be 0.0

    def _fits(self, size: float, last_bit: float, part: Array64) -> bool:
        """Make the grid fit one more term of this size and last bit; False: there is none that does."""
        self._sizes += size
        self._last_bit = min(self._last_bit, last_bit)
        self._num_parts += 1
        # 2^exponent is above all that was added up.
        exponent = math.frexp(self._sizes)[1] if self._sizes else 50 - _FURTHEST
        if self._high is None or exponent - 50 > self._grid:
            grid = exponent - 50 + _ROOM_BITS
            if abs(grid) > _FURTHEST:
                return False
            if self._high is not None:
                self._num_parts += 1
        else:
            grid = self._grid
        if self._num_parts * 2.0 ** (grid - 1) > 2.0**52 * self._last_bit:
            return False
        if self._high is not None and grid > self._grid:
            self._raise_grid(grid, part)
        self._grid = grid
        return True

    def _raise_grid(self, grid: int, part: Array64) -> None:
        assert self._high is not None
        np.copyto(part, self._high)
        _cut(self._high, grid, self._high)
        # What is taken away, so that -0.0 in ``low`` stays where nothing is: -0.0 - 0.0 is -0.0.
        np.subtract(self._high, part, out=part)
        if self._low is not None:
            np.subtract(self._low, part, out=self._low)
        elif part.any():
            self._low = 0.0 - part

    def _as_plain(self) -> Expansion:
        if self._high is None:
            return Expansion(self._size)
        if self._low is None:
            return Expansion(self._size, [self._high])
        nothing = self._high == 0.0  # then the sign of a zero is that of ``low``
        return Expansion(
            self._size, [np.where(nothing, self._low, self._high), np.where(nothing, -0.0, self._low)]
        )


def _extent(values: Array32, weight: float, room: Array32) -> tuple[float, float]:
    """(the largest size of a term, a power of two of which every term is a multiple)."""
    np.abs(values, out=room)
    largest, least = float(room.max()), float(room.min())
    assert math.isfinite(weight * largest), "only finite terms are added"
    if least == 0.0:
        least = float(np.min(room, where=room > 0.0, initial=np.inf))
    if least == math.inf:
        return 0.0, math.inf
    if float(weight).is_integer():
        # A float32 is a multiple of 2^-23 of its own power of two, and of 2^-149; so are whole multiples
        # of it, also rounded.
        return weight * largest, max(math.ldexp(1.0, math.frexp(least)[1] - 24), 2.0**-149)
    return weight * largest, math.ulp(weight * least)


def _cut(term: Array64, grid: int, out: Array64) -> None:
    """``term`` to the nearest multiple of 2^grid."""
    anchor = math.ldexp(1.5, grid + 52)
    np.add(term, anchor, out=out)
    np.subtract(out, anchor, out=out)


def _has_bits(array: Array64) -> bool:
    return bool(array.view(np.int64).any())  # -0.0 has one
