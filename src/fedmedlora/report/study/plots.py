"""The plots that a study needs beyond those of a run: curves over a number, differences, a heat map.

As in ``figures.py``: plain data in, one panel of SVG out, and its description says what it shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedmedlora.report.figures import Point
from fedmedlora.report.markup import Child, Markup, tag
from fedmedlora.report.numbers import NOT_MEASURED, interval_text, share_text
from fedmedlora.report.study.axis import TICK_CHARACTER, Axis
from fedmedlora.report.svg import NUM_STYLES, WIDTH, Panel, Scale, mark, path, rule, shorten, words

_TOP, _BOTTOM, _LEFT = 32.0, 196.0, 44.0
_GUTTER = 40.0  # for what stands beside the axis
_LEVELS = 5  # of a heat map


@dataclass(frozen=True, slots=True)
class Curve:
    """``points``: (x, value with its interval), drawn in the order of x. ``aside``: left of the axis."""

    label: str
    style: int
    shape: int
    points: tuple[tuple[float, Point], ...]
    dash: int = 0
    aside: Point | None = None


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """F1 of one method less that of another; ``words``: what is said of the two differences."""

    label: str
    style: int
    shape: int
    strict: Point | None
    lenient: Point | None
    words: str


def curve_panel(
    ident: str,
    title: str,
    curves: Sequence[Curve],
    axis: Axis,
    marks_y: Sequence[float],
    *,
    aside: str = "",
    is_diagonal: bool = False,
    is_shifted: bool = True,
) -> Panel:
    """Lines with intervals over ``axis``. ``marks_y``: ticks of the shares at the left; they span the scale.

    ``is_shifted``: lines are set off by a few pixels, so that intervals at the same x do not hide each other.
    ``aside``: name of a place left of the axis. ``is_diagonal``: where x and y are equal is drawn.
    """
    start, end = _LEFT + 14 + (_GUTTER + 8 if aside else 0), WIDTH - 20
    y = Scale(marks_y[0], marks_y[-1], _BOTTOM, _TOP)
    drawn: list[Child] = [words(8, 17, shorten(title, 44), "panel-title")]
    for tick in marks_y:
        drawn.append(rule(_LEFT, y(tick), WIDTH - 8, y(tick), "grid"))
        drawn.append(words(_LEFT - 6, y(tick) + 4, f"{tick:g}", "tick", "end"))
    for pixel, text in axis.shown_ticks(start, end):
        middle = min(pixel, WIDTH - 2 - TICK_CHARACTER * len(text) / 2)  # the last one, where it is long
        drawn.append(words(middle, _BOTTOM + 16, text, "tick", "middle"))
    drawn.append(words((start + end) / 2, _BOTTOM + 32, shorten(axis.label, 48), "tick", "middle"))
    if aside:
        drawn.append(rule(_LEFT + _GUTTER, _TOP, _LEFT + _GUTTER, _BOTTOM, "divider"))
        drawn.append(words(_LEFT + _GUTTER / 2, _BOTTOM + 16, shorten(aside, 7), "tick", "middle"))
    if is_diagonal:
        ends = (axis.place(0, start, end), y(0), axis.place(1, start, end), y(1))
        drawn.append(rule(*ends, "reference"))
    beside = [curve.aside for curve in curves if curve.aside is not None and aside]
    points = [*beside, *(point for curve in curves for _, point in curve.points)]
    if not any(point.value is not None for point in points):
        drawn.append(words((start + end) / 2, (_TOP + _BOTTOM) / 2, NOT_MEASURED, "label", "middle"))
    for number, curve in enumerate(curves):
        shift = (number - (len(curves) - 1) / 2) * min(3.0, 20.0 / max(len(curves), 1))
        shift = shift if is_shifted else 0.0
        marks: list[Child] = []
        line_points = []
        every = max(1, len(curve.points) // 12)  # a mark on each of 60 points would hide the line
        for place, (x_value, point) in enumerate(sorted(curve.points, key=lambda one: one[0])):
            x = axis.place(x_value, start, end) + shift
            line_points.append(None if point.value is None else (x, y(point.value)))
            if point.interval is not None or place % every == 0:
                marks += _with_interval(point, x, y, curve.shape, hollow=False)
        if curve.aside is not None and aside:
            marks += _with_interval(curve.aside, _LEFT + _GUTTER / 2 + shift, y, curve.shape, hollow=True)
        line = [path(line_points, curve.dash)] if len(line_points) > 1 else []
        drawn.append(tag("g", {"class": f"k{curve.style % NUM_STYLES}"}, *line, *marks))
    said = " ".join(_curve_words(curve, axis, aside) for curve in curves)
    return Panel(ident, title, said, _BOTTOM + 40, tuple(drawn))


def difference_panel(ident: str, title: str, rows: Sequence[DifferenceRow]) -> Panel:
    """Differences with intervals around a line at 0: a solid mark (strict) and a hollow one (lenient)."""
    top, row_height = 30.0, 62.0
    bottom = top + row_height * len(rows) + 4
    points = [point for row in rows for point in (row.strict, row.lenient) if point is not None]
    ends = [abs(end) for point in points for end in (*(point.interval or ()), point.value or 0.0)]
    reach = next((r for r in (0.05, 0.1, 0.2, 0.5) if r >= max(ends, default=0)), 1.0)
    x = Scale(-reach, reach, 14, WIDTH - 14)
    drawn: list[Child] = [words(8, 17, shorten(title, 44), "panel-title")]
    marks_x = (-reach, -reach / 2, 0.0, reach / 2, reach)
    for tick in marks_x:
        anchor = "start" if tick == -reach else "end" if tick == reach else "middle"
        drawn.append(words(x(tick), bottom + 14, f"{tick:+g}" if tick else "0", "tick", anchor))
    said = []
    for place, row in enumerate(rows):
        at = top + row_height * place
        drawn.append(words(8, at + 14, shorten(row.label, 48), "label"))
        drawn.append(words(8, at + 29, row.words, "label value"))
        for tick in marks_x:  # not behind the words
            drawn.append(rule(x(tick), at + 34, x(tick), at + 60, "grid" if tick else "reference"))
        marks: list[Child] = [rule(8, at, WIDTH - 8, at, "divider")] if place else []
        for point, line_y, hollow in ((row.strict, at + 41, False), (row.lenient, at + 53, True)):
            if point is None or point.value is None:
                continue
            if point.interval is not None:
                low, high = map(x, point.interval)
                marks.append(rule(low, line_y, high, line_y, "whisker"))
                marks += [rule(end, line_y - 3, end, line_y + 3, "whisker") for end in (low, high)]
            marks.append(mark(row.shape, x(point.value), line_y, hollow=hollow))
        drawn.append(tag("g", {"class": f"k{row.style % NUM_STYLES}"}, *marks))
        said.append(f"{row.label}: {row.words}.")
    return Panel(ident, title, " ".join(said), bottom + 22, tuple(drawn))


def heat_panel(
    ident: str,
    title: str,
    labels: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
) -> Panel:
    """A row per label, a box per column: its number is printed in it, the best of a column has a dot.

    The darkness of a box repeats its number in five steps; None is left blank, with a dash.
    """
    left, box_width, box_height = 196.0, 46.0, 25.0
    longest = max((min(len(column), 26) for column in columns), default=0)
    top = 34.0 + longest * 5.4
    right = longest * 3.1
    width = max(WIDTH, left + box_width * len(columns) + right)
    best = [max((row[place] or 0.0 for row in values), default=0.0) or None for place in range(len(columns))]
    drawn: list[Child] = [words(8, 17, shorten(title, 60), "panel-title")]
    for place, column in enumerate(columns):
        x, y = left + box_width * (place + 0.5) + 2, top - 6
        turn: dict[str, str | float] = {
            "class": "tick",
            "x": x,
            "y": y,
            "transform": f"rotate(-60 {x:.1f} {y:.1f})",
        }
        drawn.append(tag("text", turn, shorten(column, 26)))
    said = []
    for number, label in enumerate(labels):
        y = top + box_height * number
        drawn.append(words(8, y + 17, shorten(label, 30), "label"))
        told = []
        for place, column in enumerate(columns):
            value = values[number][place]
            x = left + box_width * place
            text = "–" if value is None else share_text(value, 2)
            if value is not None:
                level = min(_LEVELS - 1, int(value * _LEVELS))
                drawn.append(_box(x, y, box_width - 2, box_height - 2, f"heat h{level}"))
                told.append(f"{column} {text}")
            is_best = value is not None and value == best[place]
            style = "label best" if is_best else "label"
            drawn.append(
                words(x + box_width / 2 - 1, y + 17, f"•{text}" if is_best else text, style, "middle")
            )
        said.append(f"{label}: {', '.join(told) or NOT_MEASURED}.")
    return Panel(ident, title, " ".join(said), top + box_height * len(labels) + 6, tuple(drawn), width)


def _box(x: float, y: float, width: float, height: float, name: str) -> Markup:
    return tag("rect", {"class": name, "x": x, "y": y, "width": width, "height": height})


def _with_interval(point: Point, x: float, y: Scale, shape: int, *, hollow: bool) -> list[Child]:
    if point.value is None:
        return []
    marks: list[Child] = []
    if point.interval is not None:
        low, high = map(y, point.interval)
        marks.append(rule(x, low, x, high, "whisker"))
        marks += [rule(x - 2.5, end, x + 2.5, end, "whisker") for end in (low, high)]
    return [*marks, mark(shape, x, y(point.value), 3.8, hollow=hollow)]


def _curve_words(curve: Curve, axis: Axis, aside: str) -> str:
    texts = dict(axis.ticks)
    told = [
        f"{share_text(point.value)} at {texts.get(x, f'{x:.2f}')}"
        + (f" (95% interval {interval_text(point.interval)})" if point.interval else "")
        for x, point in sorted(curve.points, key=lambda one: one[0])
        if point.value is not None
    ]
    if curve.aside is not None and curve.aside.value is not None and aside:
        told.insert(0, f"{share_text(curve.aside.value)} in {aside}")
    return f"{curve.label}: {', '.join(told) or NOT_MEASURED}."
