"""The three kinds of plot: values with intervals, lines over rounds, bars. Plain data in, SVG out.

No plotting package: a report must be readable with what a hospital's machine has, and as it is in ten
years. Every panel is small; a figure is a grid of panels that share their scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedmedlora.report.markup import tag
from fedmedlora.report.numbers import NOT_MEASURED, interval_text, share_text
from fedmedlora.report.svg import (
    NUM_STYLES,
    WIDTH,
    Panel,
    Scale,
    mark,
    path,
    rule,
    shorten,
    ticks,
    words,
)


@dataclass(frozen=True, slots=True)
class Point:
    """A share from 0 to 1 with its 95% interval; ``value`` None: undefined."""

    value: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """One method; ``strict`` and ``lenient`` None: not measured. ``shape`` None: that of the style."""

    label: str
    style: int
    strict: Point | None
    lenient: Point | None
    shape: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """``values``: one per round from round 1, None where there is none. ``style``: hue, ``shape``: sign."""

    label: str
    style: int
    shape: int
    values: Sequence[float | None]
    dash: int = 0


@dataclass(frozen=True, slots=True)
class Bar:
    """``parts`` add up to the bar. ``text`` says the sum with its unit. ``pale``: drawn as an outline."""

    label: str
    style: int
    parts: Sequence[float]
    text: str
    pale: bool = False


def interval_panel(ident: str, title: str, rows: Sequence[IntervalRow]) -> Panel:
    """One cohort: per method a solid mark (strict) and a hollow one (lenient) on a scale from 0 to 1."""
    top, row_height = 30.0, 47.0
    bottom = top + row_height * len(rows) + 4
    x = Scale(0, 1, 8, WIDTH - 8)
    drawn = [words(8, 17, shorten(title, 44), "panel-title")]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        drawn.append(rule(x(tick), top, x(tick), bottom, "grid"))
        anchor = "start" if tick == 0 else "end" if tick == 1 else "middle"
        drawn.append(words(x(tick), bottom + 14, f"{tick:g}", "tick", anchor))
    said = []
    for place, row in enumerate(rows):
        y = top + row_height * place
        texts = [_point_text(row.strict, 2), _point_text(row.lenient, 2)]
        shown = texts[0] if texts[0] == texts[1] == NOT_MEASURED else f"{texts[0]} · {texts[1]}"
        drawn.append(words(8, y + 14, shorten(row.label, 34), "label"))
        drawn.append(words(WIDTH - 8, y + 14, shown, "label value", "end"))
        marks = [rule(8, y, WIDTH - 8, y, "divider")] if place else []
        shape = row.style if row.shape is None else row.shape
        for point, line_y, hollow in ((row.strict, y + 25, False), (row.lenient, y + 37, True)):
            if point is None or point.value is None:
                continue
            if point.interval is not None:
                low, high = map(x, point.interval)
                marks.append(rule(low, line_y, high, line_y, "whisker"))
                marks += [rule(end, line_y - 3, end, line_y + 3, "whisker") for end in (low, high)]
            marks.append(mark(shape, x(point.value), line_y, hollow=hollow))
        drawn.append(tag("g", {"class": f"k{row.style % NUM_STYLES}"}, *marks))
        said.append(f"{row.label}: strict {_said(row.strict)}, lenient {_said(row.lenient)}.")
    return Panel(ident, title, " ".join(said), bottom + 22, tuple(drawn))


def line_panel(
    ident: str,
    title: str,
    lines: Sequence[Line],
    *,
    number: Callable[[float | None], str],
    domain: tuple[float, float] | None = None,
    reference: tuple[float, str] | None = None,
) -> Panel:
    """Lines over rounds. ``domain``: common scale of several panels; else that of the values."""
    top, bottom, left = 32.0, 176.0, 44.0
    num_rounds = max((len(line.values) for line in lines), default=0)
    known = [value for line in lines for value in line.values if value is not None]
    low, high = domain or (min(known, default=0.0), max(known, default=1.0))
    marks_y = ticks(low, high, 4)
    y = Scale(marks_y[0], marks_y[-1], bottom, top)
    x = Scale(1, num_rounds, left + 8, WIDTH - 14)
    drawn = [words(8, 17, shorten(title, 44), "panel-title")]
    for tick in marks_y:
        drawn.append(rule(left, y(tick), WIDTH - 8, y(tick), "grid"))
        drawn.append(words(left - 6, y(tick) + 4, f"{tick:g}", "tick", "end"))
    for round_num in _round_ticks(num_rounds):
        drawn.append(words(x(round_num), bottom + 16, str(round_num), "tick", "middle"))
    drawn.append(words((left + WIDTH - 8) / 2, bottom + 32, "round", "tick", "middle"))
    if reference is not None:
        drawn.append(rule(left, y(reference[0]), WIDTH - 8, y(reference[0]), "reference"))
    if not known:
        drawn.append(words((left + WIDTH) / 2, (top + bottom) / 2, NOT_MEASURED, "label", "middle"))
    for line in lines:
        points = [None if v is None else (x(i + 1), y(v)) for i, v in enumerate(line.values)]
        every = max(1, len(points) // 12)  # a mark on each of 60 rounds would hide the line
        marks = [mark(line.shape, *p, 3.8) for i, p in enumerate(points) if p and i % every == 0]
        drawn.append(tag("g", {"class": f"k{line.style % NUM_STYLES}"}, path(points, line.dash), *marks))
    said = [f"{line.label}: {_first_last(line.values, number)}." for line in lines]
    if reference is not None:
        said.append(f"The thin line is {reference[1]}.")
    return Panel(ident, title, " ".join(said), bottom + 40, tuple(drawn))


def bar_panel(ident: str, title: str, bars: Sequence[Bar], *, high: float) -> Panel:
    """Horizontal bars from 0 to ``high``; each part of a bar is set off from the next by a gap."""
    top, row_height = 30.0, 34.0
    x = Scale(0, high, 8, WIDTH - 8)
    drawn = [words(8, 17, shorten(title, 44), "panel-title")]
    for place, bar in enumerate(bars):
        y = top + row_height * place
        drawn.append(words(8, y + 13, shorten(bar.label, 32), "label"))
        drawn.append(words(WIDTH - 8, y + 13, bar.text, "label value", "end"))
        drawn.append(tag("rect", {"class": "track", "x": 8, "y": y + 18, "width": WIDTH - 16, "height": 9}))
        begun, parts = 0.0, []
        gap = 1.5 if len(bar.parts) <= 40 else 0.0
        for part in bar.parts:
            start, end = x(begun), x(begun + part)
            begun += part
            if end - start > 0:
                box = {"x": start, "y": y + 18, "width": max(end - start - gap, 0.75), "height": 9}
                parts.append(tag("rect", {"class": "mark hollow" if bar.pale else "mark solid", **box}))
        drawn.append(tag("g", {"class": f"k{bar.style % NUM_STYLES}"}, *parts))
    said = " ".join(f"{bar.label}: {bar.text}." for bar in bars)
    return Panel(ident, title, said, top + row_height * len(bars) + 4, tuple(drawn))


def _point_text(point: Point | None, digits: int) -> str:
    return NOT_MEASURED if point is None else share_text(point.value, digits)


def _said(point: Point | None) -> str:
    interval = interval_text(point.interval) if point else ""
    return _point_text(point, 3) + (f" (95% interval {interval})" if interval else "")


def _first_last(values: Sequence[float | None], number: Callable[[float | None], str]) -> str:
    known = [(i + 1, value) for i, value in enumerate(values) if value is not None]
    if not known:
        return NOT_MEASURED
    (first, begin), (last, end) = known[0], known[-1]
    if first == last:
        return f"{number(begin)} in round {first}"
    return f"{number(begin)} in round {first}, {number(end)} in round {last}"


def _round_ticks(num_rounds: int) -> tuple[int, ...]:
    if num_rounds <= 10:
        return tuple(range(1, num_rounds + 1))
    step = -(-num_rounds // 8)
    return (1, *range(step, num_rounds + 1, step)) if step > 1 else tuple(range(1, num_rounds + 1))
