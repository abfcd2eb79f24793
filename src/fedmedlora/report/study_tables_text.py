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
from fedmedlora.report.study.arms import JUDGED
from fedmedlora.report.study.view import CALLED, Entry, Row, StudyView, highest, view_of
from fedmedlora.results.study_schema import MAIN


def study_table_text(results: Mapping[str, Any]) -> list[Table]:
    """One table per kind of score that was measured: the main arm, means over the cohorts of each kind. Then,
    of a study with arms, what they measured of the kinds that a group is judged by.

    A cell is F1 with its interval, the best of a column in bold. ``results`` follow the schema. Names are
    shown as they are: nothing in them is read as a style, and control characters appear by number.
    """
    view = view_of(results)
    main = [table for kind, title in SCORE_TITLES.items() if (table := _table(view, kind, title))]
    kinds = dict.fromkeys(kind for kind, _ in JUDGED)
    return [*main, *(table for kind in kinds if (table := _arms(view, kind)))]


def _arms(view: StudyView, kind: str) -> Table | None:
    """What the arms measured: a line per method, without intervals, which the report has."""
    overs = list(dict.fromkeys(over for arm in view.arms for over in view.overs(arm)))
    table = Table(
        title=Text(f"{SCORE_TITLES[kind]}, by arm: mean F1, strict / lenient"), title_justify="left"
    )
    table.add_column("arm", overflow="fold")
    table.add_column("method", overflow="fold")
    for over in overs:
        table.add_column(Text(CALLED[over]), justify="right", overflow="fold")
    for arm in view.arms:
        told = view.rows(arm) if arm != MAIN else ()
        lines = [(row, [_pair(view, arm, row, over, kind) for over in overs]) for row in told]
        measured = [(row, cells) for row, cells in lines if any(cells)]
        for place, (row, cells) in enumerate(measured):
            head = "" if place else visible(arm)
            shown = (cell or Text(NOT_MEASURED, style="dim") for cell in cells)
            is_last = place + 1 == len(measured)
            table.add_row(Text(head), Text(visible(row.label)), *shown, end_section=is_last)
    return table if table.row_count else None


def _pair(view: StudyView, arm: str, row: Row, over: str, kind: str) -> Text | None:
    means = [view.mean(row, over, kind, criterion, arm) for criterion in CRITERIA]
    found = [mean for mean in means if mean]
    return Text(" / ".join(share_text(mean["f1"], 2) for mean in found)) if found else None


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
        table.add_column(Text(heading), justify="right", overflow="fold")
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
