"""What a part of the report shows, before it is HTML, SVG or CSV: tables and figures as plain data.

The page, the picture files and the table files are all made of these, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedmedlora.report.blocks import name
from fedmedlora.report.markup import Child, Markup, join
from fedmedlora.report.numbers import NOT_MEASURED, interval_text, share_text
from fedmedlora.report.svg import Panel


@dataclass(frozen=True, slots=True)
class Name:
    """A user's name, which is isolated from the words around it."""

    text: str


Words = tuple[str | Name, ...]


def shown(words: Words) -> Markup:
    """``words`` as HTML."""
    return join(name(word.text) if isinstance(word, Name) else word for word in words)


def plain(words: Words) -> str:
    """``words`` as text."""
    return "".join(word.text if isinstance(word, Name) else word for word in words)


@dataclass(frozen=True, slots=True)
class Sign:
    """How a method or a site is drawn: hue ("k0" ... or "ink"), shape, and dashes of its line."""

    shape: int
    hue: str
    dash: int | None = None
    is_hollow: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. ``value``: in the CSV file; ``text``: on the page. ``also``: values for ``Column.also``.

    ``small``: a second line on the page, an interval or a user's name.
    """

    value: str | int | float | None
    text: str
    also: tuple[str | float | None, ...] = ()
    small: str | Name = ""
    is_name: bool = False
    is_best: bool = False
    sign: Sign | None = None


def named(text: str, sign: Sign | None = None) -> Cell:
    """A user's name, with the sign that it has in the figures."""
    return Cell(text, text, is_name=True, sign=sign)


def word(text: str) -> Cell:
    """A word of ours."""
    return Cell(text, text)


def absent(also: int = 0) -> Cell:
    """What was not measured."""
    return Cell(None, NOT_MEASURED, (None,) * also)


def share(
    value: float | None, interval: Sequence[float] | None = None, *, digits: int = 3, is_best: bool = False
) -> Cell:
    """A share from 0 to 1; None: undefined. For a column with an interval."""
    low, high = (None, None) if interval is None else (interval[0], interval[1])
    return Cell(value, share_text(value, digits), (low, high), small=interval_text(interval), is_best=is_best)


@dataclass(frozen=True, slots=True)
class Column:
    """``group``: what stands above it and its neighbours.

    ``also``: further columns of the CSV file, ``unit``: that of the numbers there.
    """

    title: str | Name
    group: str | Name = ""
    also: tuple[str, ...] = ()
    unit: str = ""


INTERVAL = ("low", "high")


@dataclass(frozen=True, slots=True)
class StudyTable:
    """``arms``: those whose runs it shows. ``fold``: on the page it is opened by a click on these words.

    ``num_words``: columns of words at the left. ``is_prose``: of words throughout.
    """

    ident: str
    caption: Words
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    arms: tuple[str, ...]
    fold: Words = ()
    num_words: int = 1
    is_prose: bool = False


@dataclass(frozen=True, slots=True)
class StudyFigure:
    """Panels on one scale, what their signs mean, and the same numbers as ``table``."""

    ident: str
    caption: Words
    panels: tuple[Panel, ...]
    legend: tuple[tuple[Sign | None, Words], ...]
    table: StudyTable
    arms: tuple[str, ...]
    fold: Words = ()


Piece = Markup | StudyTable | StudyFigure


@dataclass(frozen=True, slots=True)
class Part:
    """A section of the page. ``short``: its name in the list of contents."""

    ident: str
    title: str | Name
    short: str | Name
    pieces: tuple[Piece, ...]


def title_of(title: str | Name) -> Child:
    """A title as HTML."""
    return name(title.text) if isinstance(title, Name) else title
