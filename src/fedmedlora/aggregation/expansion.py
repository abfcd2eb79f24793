"""A sum of float64 arrays that loses nothing, whatever is added. The plain way, for what the fast ones leave.

The sum is held as an unevaluated sum of float64 arrays, ``levels[0] + levels[1] + ...``, and adding a term
passes what each level cannot hold on to the next:

    s = RN(a + b),   e = (a - (s - bb)) + (b - bb)  with  bb = s - a,   so that  a + b = s + e  exactly

(Knuth's TwoSum: The Art of Computer Programming 2, section 4.2.2, theorem B; as a chain, the grow-expansion
of Shewchuk, "Adaptive Precision Floating-Point Arithmetic", Discrete and Computational Geometry 18, 1997,
https://doi.org/10.1007/PL00009321). Two levels hold 106 bits and are nearly always enough; a further one is
made where something would be lost. So ``total`` is the sum correctly rounded to float64, whatever the order.

Cost: 16 bytes a number, and some fifteen passes over every term.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Array64 = npt.NDArray[np.float64]
_USUAL_LEVELS = 2
# Each level is below the last bit of the one before it, times the number of terms; float64 has 2098 bits.
_MOST_LEVELS = 100


class Expansion:
    """The sum of all terms. A sum of nothing, and of -0.0 alone, is -0.0."""

    def __init__(self, size: int, levels: Iterable[Array64] = ()) -> None:
        """``size``: of every term. ``levels``: what has been added up already; taken over."""
        self._size, self._levels = size, list(levels)
        # -0.0, not 0.0, is what leaves everything else as it is.
        self._levels += [np.full(size, -0.0) for _ in range(_USUAL_LEVELS - len(self._levels))]

    def add(self, term: Array64) -> None:
        """Add ``term``, which is used up: finite, and small enough that float64 holds the sum."""
        number = 0
        while number < _USUAL_LEVELS or term.any():
            # NaN and infinity would be passed on for ever.
            assert number < _MOST_LEVELS, "only finite terms are added"
            if number == len(self._levels):
                self._levels.append(np.full(self._size, -0.0))
            held = self._levels[number]
            rounded = held + term
            back = rounded - held
            np.subtract(term, back, out=term)  # b - bb
            np.subtract(rounded, back, out=back)  # s - bb
            np.subtract(held, back, out=back)  # a - (s - bb)
            np.add(term, back, out=term)
            self._levels[number] = rounded
            number += 1

    def total(self) -> Array64:
        """The sum, correctly rounded to float64 (to the nearest, ties to even)."""
        first, second = self._levels[:2]
        found = np.where(second == 0.0, first, first + second)  # -0.0 + 0.0 would be 0.0
        further = np.zeros(self._size, bool)
        for level in self._levels[2:]:
            further |= level != 0.0
        for place in np.flatnonzero(further):
            found[place] = math.fsum(level[place] for level in self._levels)
        return found
