"""Scores for the terminal: methods by cohorts; strict and lenient F1, or the score of answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from fedmedlora.report.markup import visible
from fedmedlora.report.numbers import NOT_MEASURED, share_text
from fedmedlora.report.rows import ANSWERS, CRITERIA, SCORE_TITLES, Row, best, has_answers, score_rows


def table_text(results: Mapping[str, Any]) -> list[Table]:
    """One table per kind of score; cells are "strict / lenient" F1, the best of a column in bold.

    Of instruction data there is one table, with one number in a cell.

    ``results`` follow the schema. Names are shown as they are: nothing in them is read as a style, and
    control characters appear by number.
    """
    rows = score_rows(results)
    cohorts = [cohort["name"] for cohort in results["cohorts"]]
    if has_answers(results):
        return [_table("Answers: share that is right, or F1 of words", ANSWERS, rows, cohorts)]
    return [
        _table(f"{title}: F1, strict / lenient", kind, rows, cohorts) for kind, title in SCORE_TITLES.items()
    ]


def _table(title: str, kind: str, rows: tuple[Row, ...], cohorts: list[str]) -> Table:
    table = Table(title=Text(title), title_justify="left")
    table.add_column("method", no_wrap=True, min_width=max((len(visible(r.label)) for r in rows), default=6))
    for cohort in cohorts:
        table.add_column(Text(visible(cohort)), justify="right", overflow="fold")
    for row in rows:
        table.add_row(Text(visible(row.label)), *(_cell(row, rows, cohort, kind) for cohort in cohorts))
    return table


def _cell(row: Row, rows: tuple[Row, ...], cohort: str, kind: str) -> Text:
    if row.score(cohort, kind, "strict") is None:
        return Text(NOT_MEASURED, style="dim")
    cell = Text()
    for criterion in ("",) if kind == ANSWERS else CRITERIA:
        is_best = row in best(rows, cohort, kind, criterion)
        cell.append(" / " if cell else "")
        cell.append(share_text(row.f1(cohort, kind, criterion), 2), style="bold" if is_best else "")
    return cell
