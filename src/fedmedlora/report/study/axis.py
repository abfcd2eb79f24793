"""The horizontal axis of a curve: where numbers lie, on a straight or a logarithmic scale, and its ticks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fedmedlora.report.svg import Scale, ticks

_SPREAD = 8.0  # largest by smallest: from here on a straight scale would crowd the small ones
_ZERO = 30.0  # pixels that a logarithmic scale keeps free at its left for 0
TICK_CHARACTER = 6.2  # pixels, about


@dataclass(frozen=True, slots=True)
class Axis:
    """From ``low`` to ``high``, above 0 where it is logarithmic. ``has_zero``: 0 has a place of its own."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    is_log: bool = False
    has_zero: bool = False

    def place(self, value: float, start: float, end: float) -> float:
        """The pixel of ``value`` on an axis from ``start`` to ``end``."""
        if not self.is_log:
            return Scale(self.low, self.high, start, end)(value)
        if value <= 0:
            return start
        scale = Scale(math.log(self.low), math.log(self.high), start + _ZERO * self.has_zero, end)
        return scale(math.log(value))

    def shown_ticks(self, start: float, end: float) -> list[tuple[float, str]]:
        """(pixel, text) of the ticks that do not run into each other; the first and the last are kept."""
        placed = [(self.place(value, start, end), text) for value, text in self.ticks]
        kept = placed[:1]
        for pixel, text in placed[1:]:
            while len(kept) > 1 and pixel == placed[-1][0] and _touch(kept[-1], (pixel, text)):
                kept.pop()
            if not _touch(kept[-1], (pixel, text)):
                kept.append((pixel, text))
        return kept


def axis_of(label: str, values: Iterable[float], text: Callable[[float], str] = "{:g}".format) -> Axis:
    """The axis for the few numbers ``values`` of a study, each of which is a tick."""
    found = sorted(set(values))
    above = [value for value in found if value > 0]
    is_log = bool(above) and found[0] >= 0 and above[-1] / above[0] > _SPREAD
    low, high = (above[0], above[-1]) if is_log else (found[0], found[-1]) if found else (0.0, 1.0)
    marks = tuple((value, text(value)) for value in found)
    return Axis(label, low, high, marks, is_log, has_zero=is_log and found[0] == 0)


def share_axis(label: str) -> Axis:
    """From 0 to 1."""
    return Axis(label, 0.0, 1.0, tuple((tick, f"{tick:g}") for tick in (0.0, 0.25, 0.5, 0.75, 1.0)))


def power_axis(label: str, values: Iterable[float], text: Callable[[float], str], power: int) -> Axis:
    """For measured numbers of any size: ticks at powers of ``power``, or straight where they are alike."""
    found = sorted(set(values))
    above = [value for value in found if value > 0]
    if not above:
        return axis_of(label, found, text)
    first, last = (math.log(value, power) for value in (above[0], above[-1]))
    low, high = math.floor(first + 1e-9), math.ceil(last - 1e-9)
    high = max(high, low + 1)
    marks = [(float(power) ** step, text(float(power) ** step)) for step in range(low, high + 1)]
    zero = [(0.0, text(0.0))] if found[0] <= 0 else []
    return Axis(label, marks[0][0], marks[-1][0], (*zero, *marks), True, bool(zero))


def common_scale(values: Iterable[float | None]) -> tuple[float, ...]:
    """Ticks of a vertical scale that several panels share, from 0 to 1 at most."""
    known = [value for value in values if value is not None]
    if not known:
        return (0.0, 0.5, 1.0)
    low, high = min(known), max(known)
    return ticks(low, high) if high - low > 0.02 else ticks(max(0.0, low - 0.02), min(1.0, high + 0.02))


def _touch(one: tuple[float, str], other: tuple[float, str]) -> bool:
    return abs(other[0] - one[0]) < TICK_CHARACTER * (len(one[1]) + len(other[1])) / 2 + 3
