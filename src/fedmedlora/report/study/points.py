"""From scores and means to what the plots draw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedmedlora.report.figures import Point
from fedmedlora.report.study.pieces import Cell, Name, Sign, Words, absent, share
from fedmedlora.report.study.view import Entry, Row


def point_of(entry: Entry | None) -> Point | None:
    """F1 with its interval; None when it was not measured."""
    if entry is None:
        return None
    interval = entry["interval"]
    return Point(entry["f1"], None if interval is None else (interval[0], interval[1]))


def cell_of(entry: Entry | None, *, digits: int = 3) -> Cell:
    """The same as a cell of a column with an interval."""
    return absent(2) if entry is None else share(entry["f1"], entry["interval"], digits=digits)


def reach_of(points: Iterable[Point | None]) -> list[float]:
    """Every value and end of an interval, for a scale that holds them all."""
    found: list[float] = []
    for point in points:
        if point is not None and point.value is not None:
            found += [point.value, *(point.interval or ())]
    return found


def legend_of(rows: Sequence[Row], *, line: bool = False) -> tuple[tuple[Sign | None, Words], ...]:
    """The signs of methods."""
    return tuple((row.sign(line=line), (Name(row.label),)) for row in rows)


def strict_and_lenient() -> tuple[tuple[Sign | None, Words], ...]:
    """What solid and hollow marks are."""
    return (
        (Sign(0, "ink"), ("solid: strict F1",)),
        (Sign(0, "ink", is_hollow=True), ("hollow: lenient F1",)),
    )
