"""The means of a study of many runs for the terminal: methods by kinds of cohorts, with 95% intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from fedmedlora.report.interval_note import interval_note
from fedmedlora.report.markup import visible
from fedmedlora.report.numbers import NOT_MEASURED, interval_text, share_text
from fedmedlora.report.rows import CRITERIA, SCORE_TITLES
from fedmedlora.report.study.view import CALLED, Entry, StudyView, highest, view_of


def study_table_text(results: Mapping[str, Any]) -> list[Table]:
    """One table per kind of score that was measured: the main arm, means over the cohorts of each kind.

    A cell is F1 with its interval, the best of a column in bold. ``results`` follow the schema. Names are
    shown as they are: nothing in them is read as a style, and control characters appear by number.
    """
    view = view_of(results)
    return [table for kind, title in SCORE_TITLES.items() if (table := _table(view, kind, title))]


def _table(view: StudyView, kind: str, title: str) -> Table | None:
    rows = view.rows()
    columns = [
        (f"{CALLED[over]}, {criterion}", [view.mean(row, over, kind, criterion) for row in rows])
        for over in view.overs()
        for criterion in CRITERIA
    ]
    if not any(mean for _, held in columns for mean in held):
        return None
    table = Table(title=Text(f"{title}: mean F1 and 95% interval"), title_justify="left")
    table.add_column("method", no_wrap=True, min_width=max(len(visible(row.label)) for row in rows))
    for heading, _ in columns:
        table.add_column(Text(heading), justify="right")
    note = interval_note(view.results, (mean for _, held in columns for mean in held))
    if note:
        table.caption = Text(note, style="dim")
        table.caption_justify = "left"
    best = [highest(mean["f1"] for mean in held if mean) for _, held in columns]
    for place, row in enumerate(rows):
        cells = [_cell(held[place], top) for (_, held), top in zip(columns, best, strict=True)]
        table.add_row(Text(visible(row.label)), *cells)
    return table


def _cell(mean: Entry | None, top: float | None) -> Text:
    if mean is None:
        return Text(NOT_MEASURED, style="dim")
    is_best = top is not None and mean["f1"] == top
    cell = Text(share_text(mean["f1"]), style="bold" if is_best else "")
    interval = interval_text(mean["interval"])
    return cell.append(f" {interval}" if interval else "", style="dim")
