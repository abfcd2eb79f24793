"""Parts of a plot as SVG: scales, ticks, marks. Colours are CSS classes ``k0`` ... of ``style.css``.

Lengths are SVG pixels of a panel that is ``WIDTH`` wide, about its size on a phone, so that text
keeps its size there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedmedlora.report.markup import Child, Markup, tag

WIDTH = 340.0
NUM_STYLES = 8
_DASHES = ("", "6 3", "2 3", "9 3 2 3", "12 4", "4 2 1 2", "1 2", "7 2 7 5")


@dataclass(frozen=True, slots=True)
class Scale:
    """Numbers from ``low`` to ``high`` to pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of ``value``; what lies outside is put at the border."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def ticks(low: float, high: float, most: int = 5) -> tuple[float, ...]:
    """Round numbers (1, 2, 5 times a power of ten) that enclose ``low`` to ``high``, ``most`` + 1 at most."""
    if not high > low:
        half = min(0.5, abs(low))  # a loss alone is not to get a scale with losses below zero
        low, high = (low - half, high + half) if low else (0.0, 1.0)
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    for factor in (1, 2, 5, 10, 20):
        step = factor * power
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            break
    return tuple(round(place * step, 12) for place in range(first, last + 1))


def mark(style: int, x: float, y: float, radius: float = 4.5, *, hollow: bool = False) -> Markup:
    """The sign of a style: shape as well as hue, so that colour is never the only difference."""
    sides: tuple[tuple[float, float], ...]
    name = f"mark {'hollow' if hollow else 'solid'}"
    shape = style % NUM_STYLES
    if shape == 0:
        return tag("circle", {"class": name, "cx": x, "cy": y, "r": radius})
    if shape == 1:
        sides = _corners(4, 45)
    elif shape == 2:
        sides = _corners(3, -90)
    elif shape == 3:
        sides = _corners(4, 0)
    elif shape == 4:
        sides = _corners(3, 90)
    elif shape == 5:
        sides = _corners(6, 0)
    elif shape == 6:
        arm, half = 1.15, 0.42
        sides = ((-half, -arm), (half, -arm), (half, -half), (arm, -half), (arm, half), (half, half))
        sides += ((half, arm), (-half, arm), (-half, half), (-arm, half), (-arm, -half), (-half, -half))
    else:
        sides = tuple(
            (r * math.cos(math.radians(36 * i - 90)), r * math.sin(math.radians(36 * i - 90)))
            for i in range(10)
            for r in [1.3 if i % 2 == 0 else 0.6]
        )
    points = " ".join(f"{x + radius * dx:.1f},{y + radius * dy:.1f}" for dx, dy in sides)
    return tag("polygon", {"class": name, "points": points})


def words(x: float, y: float, text: str, name: str = "", anchor: str = "start") -> Markup:
    """A line of text; ``anchor``: start, middle or end."""
    attributes: dict[str, str | float] = {"x": x, "y": y, "text-anchor": anchor}
    return tag("text", attributes | ({"class": name} if name else {}), text)


def rule(x1: float, y1: float, x2: float, y2: float, name: str) -> Markup:
    """A straight line."""
    return tag("line", {"class": name, "x1": x1, "y1": y1, "x2": x2, "y2": y2})


def path(points: Sequence[tuple[float, float] | None], dash: int = 0) -> Markup:
    """A line through ``points``, with a gap wherever one is None. ``dash``: which pattern."""
    parts, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
        else:
            parts.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
            pen = "L"
    attributes = {"class": "path", "d": " ".join(parts)}
    pattern = _DASHES[dash % len(_DASHES)]
    return tag("path", attributes | ({"stroke-dasharray": pattern} if pattern else {}))


def shorten(text: str, num_characters: int) -> str:
    """``text`` so that it fits into a plot; the whole of it stands in the table below the figure."""
    return text if len(text) <= num_characters else text[: num_characters - 1].rstrip() + "…"


@dataclass(frozen=True, slots=True)
class Panel:
    """A whole picture, with its name and description for those who do not see it."""

    ident: str
    title: str
    description: str
    height: float
    children: tuple[Child, ...]
    width: float = WIDTH

    def markup(self) -> Markup:
        """As SVG inside a page. What is wider than others keeps its size, and its box scrolls."""
        attributes: dict[str, str | int | float] = {
            "class": "panel",
            "viewBox": f"0 0 {self.width:.0f} {self.height:.0f}",
            "role": "img",
            "aria-labelledby": f"{self.ident}-title {self.ident}-desc",
        }
        if self.width > WIDTH:
            attributes |= {"class": "panel wide", "width": round(self.width), "height": round(self.height)}
        return tag("svg", attributes, *self.names(), *self.children)

    def names(self) -> tuple[Markup, Markup]:
        """Title and description, as the picture begins with them."""
        title = tag("title", {"id": f"{self.ident}-title"}, self.title)
        return title, tag("desc", {"id": f"{self.ident}-desc"}, self.description)


def swatch(style: int, *, hollow: bool = False, dash: int | None = None, hue: str = "") -> Markup:
    """The sign of a legend entry; the words beside it say what it means, so it is hidden from readers."""
    line = () if dash is None else (path(((1, 8), (29, 8)), dash),)
    attributes = {
        "class": f"swatch {hue or f'k{style % NUM_STYLES}'}",
        "viewBox": "0 0 30 16",
        "aria-hidden": "true",
    }
    return tag("svg", attributes, *line, mark(style, 15, 8, hollow=hollow))


def _corners(count: int, turn: float) -> tuple[tuple[float, float], ...]:
    size = 1.2
    angles = [math.radians(turn + 360 * place / count) for place in range(count)]
    return tuple((size * math.cos(angle), size * math.sin(angle)) for angle in angles)
