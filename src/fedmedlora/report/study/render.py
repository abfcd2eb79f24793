"""The parts of the report as HTML."""

from __future__ import annotations

from itertools import groupby

from fedmedlora.report.blocks import data_table, figure, fold, name, section
from fedmedlora.report.markup import Child, Markup, join, tag
from fedmedlora.report.numbers import NOT_MEASURED
from fedmedlora.report.study.pieces import (
    Cell,
    Name,
    Part,
    Piece,
    Sign,
    StudyTable,
    shown,
    title_of,
)
from fedmedlora.report.study.view import StudyView
from fedmedlora.report.svg import swatch


def part_markup(part: Part, view: StudyView) -> Markup:
    """A section."""
    return section(part.ident, title_of(part.title), *(_piece(piece, view) for piece in part.pieces))


def _piece(piece: Piece, view: StudyView) -> Child:
    if isinstance(piece, Markup):
        return piece
    if isinstance(piece, StudyTable):
        made = _made(view, piece.arms, f"tables/{piece.ident}.csv")
        found: Markup = _table(piece, made)
    else:
        files = f"figures/{piece.ident}.svg, tables/{piece.ident}.csv"
        found = figure(
            piece.ident,
            join((shown(piece.caption), _made(view, piece.arms, files))),
            piece.panels,
            [(_swatch(sign), shown(words)) for sign, words in piece.legend],
            _table(piece.table, ""),
        )
    return fold(shown(piece.fold), found) if piece.fold else found


def _made(view: StudyView, arms: tuple[str, ...], files: str) -> Markup:
    """Which files hold it, and the command that it comes from."""
    command = tag("code", {}, view.command(arms))
    return tag("span", {"class": "made"}, "In ", tag("code", {}, files), ". Made by ", command)


def _table(table: StudyTable, made: Child) -> Markup:
    groups: list[tuple[Child, int]] = []
    if any(column.group for column in table.columns):
        groups = [
            (title_of(group), len(list(held)))
            for group, held in groupby(column.group for column in table.columns[1:])
        ]
    return data_table(
        table.ident,
        shown(table.caption),
        [title_of(column.title) for column in table.columns],
        [[_cell(cell) for cell in row] for row in table.rows],
        groups=groups,
        style="prose" if table.is_prose else "numbers",
        num_words=table.num_words,
        made=made,
    )


def _cell(cell: Cell) -> Child:
    text: Child = name(cell.text) if cell.is_name else cell.text
    if cell.text == NOT_MEASURED and not cell.is_name:
        return tag("span", {"class": "absent"}, text)
    if cell.sign is not None:
        return tag("span", {"class": "method"}, _swatch(cell.sign), text)
    if cell.is_best:
        word = "" if isinstance(cell.value, str) else tag("span", {"class": "hidden"}, " (best)")
        text = tag("strong", {}, text, word)
    if not cell.small:
        return text
    small = name(cell.small.text) if isinstance(cell.small, Name) else cell.small
    return join((text, tag("span", {"class": "interval"}, small)))


def _swatch(sign: Sign | None) -> Markup:
    if sign is None:
        return Markup("")
    return swatch(sign.shape, hollow=sign.is_hollow, dash=sign.dash, hue=sign.hue)
