"""A sum of float32 arrays with weights, exact: no order of adding can change a bit of it.

Every term ``weight * value`` is rounded to float64 once, by itself; from there nothing is lost. The sum is
held as an unevaluated sum of float64 arrays, ``levels[0] + levels[1] + ...``, and adding a term passes what
each level cannot hold on to the next:

    s = RN(a + b),   e = (a - (s - bb)) + (b - bb)  with  bb = s - a,   so that  a + b = s + e  exactly

(Knuth's TwoSum: The Art of Computer Programming 2, section 4.2.2, theorem B; as a chain, the grow-expansion
of Shewchuk, "Adaptive Precision Floating-Point Arithmetic", Discrete and Computational Geometry 18, 1997,
https://doi.org/10.1007/PL00009321). Two levels hold 106 bits and are nearly always enough; a further one is
made where something would be lost. So ``total`` is the sum correctly rounded to float64, whatever the order.

Cost: 16 bytes a number, and some fifteen passes over a block that stays in the processor's cache.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

BLOCK = 1 << 14  # numbers worked on at once: their float64 arrays fit a core's own cache
_USUAL_LEVELS = 2


class ExactSum:
    """``sum of weight * array``. A sum of nothing, and of -0.0 alone, is -0.0."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """``shape``: of all arrays."""
        self._shape = shape
        size = math.prod(shape)
        # -0.0, not 0.0, is what leaves everything else as it is.
        self._levels = [np.full(size, -0.0) for _ in range(_USUAL_LEVELS)]
        self._scratch = [np.empty(min(size, BLOCK)) for _ in range(3)]

    def add(self, values: npt.NDArray[np.float32], weight: float) -> None:
        """Add ``weight * values``; both finite, and small enough that float64 holds what they add up to."""
        assert values.shape == self._shape
        flat = values.reshape(-1)
        for start in range(0, flat.size, BLOCK):
            self._add_block(flat[start : start + BLOCK], weight, start)

    def total(self) -> npt.NDArray[np.float64]:
        """The sum, correctly rounded to float64 (to the nearest, ties to even)."""
        first, second = self._levels[:2]
        found = np.where(second == 0.0, first, first + second)  # -0.0 + 0.0 would be 0.0
        for place in sorted({int(p) for level in self._levels[2:] for p in np.flatnonzero(level)}):
            found[place] = math.fsum(level[place] for level in self._levels)
        return found.reshape(self._shape)

    def _add_block(self, values: npt.NDArray[np.float32], weight: float, start: int) -> None:
        size = len(values)
        term, back, rounded = (each[:size] for each in self._scratch)
        np.multiply(values, weight, out=term, dtype=np.float64)
        number = 0
        while number < _USUAL_LEVELS or term.any():
            if number == len(self._levels):
                self._levels.append(np.full(math.prod(self._shape), -0.0))
            held = self._levels[number][start : start + size]
            np.add(held, term, out=rounded)
            np.subtract(rounded, held, out=back)
            np.subtract(term, back, out=term)  # b - bb
            np.subtract(rounded, back, out=back)  # s - bb
            np.subtract(held, back, out=back)  # a - (s - bb)
            np.add(term, back, out=term)
            np.copyto(held, rounded)
            number += 1
