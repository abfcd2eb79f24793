"""A table of the report as CSV (RFC 4180, UTF-8, lines end with LF): all digits; empty: not known.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula, and names come from
users: such a cell gets an apostrophe in front, as OWASP advises against CSV injection
(https://owasp.org/www-community/attacks/CSV_Injection). Numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
import re

from fedmedlora.report.markup import visible
from fedmedlora.report.study.pieces import Cell, Column, Name, StudyTable

_FORMULA = "=+-@＝＋－＠"
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


def csv_text(table: StudyTable) -> str:
    """The whole file; columns as on the page, with those of ``Column.also`` behind each."""
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\n")
    writer.writerow([guarded(title) for column in table.columns for title in _titles(column)])
    for row in table.rows:
        cells = zip(row, table.columns, strict=True)
        writer.writerow([_written(value) for cell, column in cells for value in _values(cell, column)])
    return held.getvalue()


def guarded(text: str) -> str:
    """``text`` so that no spreadsheet runs it, with hidden characters shown by their number."""
    shown = visible(text)
    is_formula = shown.lstrip()[:1] in tuple(_FORMULA) and not _NUMBER.fullmatch(shown)
    return f"'{shown}" if is_formula else shown


def _titles(column: Column) -> list[str]:
    group, title = (part.text if isinstance(part, Name) else part for part in (column.group, column.title))
    said = f"{group}: {title}" if group else title
    first = f"{said} ({column.unit})" if column.unit else said
    return [first, *(f"{said}, {also}" for also in column.also)]


def _values(cell: Cell, column: Column) -> list[str | int | float | None]:
    also = cell.also[: len(column.also)]
    return [cell.value, *also, *([None] * (len(column.also) - len(also)))]


def _written(value: str | int | float | None) -> str | int | float:
    return "" if value is None else guarded(value) if isinstance(value, str) else value
