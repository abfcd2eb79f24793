"""Scores: dots with intervals per cohort, tables with intervals, and every count behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedmedlora.report.blocks import data_table, figure, fold, made_by, name, paragraph, section
from fedmedlora.report.figures import IntervalRow, Point, interval_panel
from fedmedlora.report.interval_note import interval_note
from fedmedlora.report.markup import Child, Markup, join, tag
from fedmedlora.report.numbers import NOT_MEASURED, count_text, interval_text, share_text
from fedmedlora.report.rows import CRITERIA, SCORE_TITLES, Row, best, score_rows
from fedmedlora.report.svg import swatch

_PLOTTED = {
    "entities": "Entities: F1 of each method, per cohort.",
    "modifiers_gold": "Modifiers, asked for with the gold entities: F1 of each method, per cohort.",
}
_DETAILED = ("entities", "modifiers_gold", "links_gold")


def scores_section(results: Mapping[str, Any]) -> Markup:
    """All scores of all methods on all cohorts."""
    rows = score_rows(results)
    cohorts = [cohort["name"] for cohort in results["cohorts"]]
    made = made_by(results["command"])
    note = interval_note(
        results,
        (
            row.score(at, kind, by)
            for row in rows
            for at in cohorts
            for kind in SCORE_TITLES
            for by in CRITERIA
        ),
    )
    plots = [_plot(kind, join((words, made)), rows, cohorts) for kind, words in _PLOTTED.items()]
    tables = [_table(kind, rows, cohorts) for kind in SCORE_TITLES]
    return section(
        "scores",
        "Scores",
        paragraph(
            "Strict: the same boundaries and the same type. Lenient: the same type and at least one shared "
            "character. All F1 are micro-averaged; lines and small numbers are 95% intervals by bootstrap "
            "over notes, which are rough where there is a handful. "
            f"“{NOT_MEASURED}” is not zero; “n/a” means that there was nothing to find and "
            "nothing was found."
        ),
        *plots,
        tag("h3", {}, "Tables"),
        paragraph("Bold, with a dot: the best of its column."),
        *tables,
        paragraph(note) if note else "",
        tag("h3", {"class": "screen"}, "Details"),
        *(_per_type(kind, rows, cohorts) for kind in _DETAILED),
        _counts(rows, cohorts),
    )


def _plot(kind: str, caption: Child, rows: Sequence[Row], cohorts: Sequence[str]) -> Markup:
    panels = []
    for place, cohort in enumerate(cohorts):
        drawn = [
            IntervalRow(
                row.label,
                row.style,
                _point(row.score(cohort, kind, "strict")),
                _point(row.score(cohort, kind, "lenient")),
            )
            for row in rows
        ]
        panels.append(interval_panel(f"plot-{kind}-{place}", cohort, drawn))
    legend: list[tuple[Markup, Child]] = [
        (swatch(0, hue="ink"), "solid: strict F1"),
        (swatch(0, hue="ink", hollow=True), "hollow: lenient F1"),
        (Markup(""), "numbers: strict · lenient"),
    ]
    data = _f1_table(f"plot-{kind}-data", f"{SCORE_TITLES[kind]}: F1 and 95% interval.", kind, rows, cohorts)
    return figure(f"figure-{kind}", caption, panels, legend, data)


def _point(numbers: Mapping[str, Any] | None) -> Point | None:
    if numbers is None:
        return None
    interval = numbers["interval"]
    return Point(numbers["f1"], None if interval is None else (interval[0], interval[1]))


def _table(kind: str, rows: Sequence[Row], cohorts: Sequence[str]) -> Markup:
    if not any(row.score(cohort, kind, "strict") for row in rows for cohort in cohorts):
        return paragraph(tag("strong", {}, SCORE_TITLES[kind]), f": {NOT_MEASURED}.")
    return _f1_table(f"table-{kind}", f"{SCORE_TITLES[kind]}: F1 and 95% interval.", kind, rows, cohorts)


def _f1_table(ident: str, caption: str, kind: str, rows: Sequence[Row], cohorts: Sequence[str]) -> Markup:
    columns: list[Child] = ["Method"]
    groups: list[tuple[Child, int]] = []
    for cohort in cohorts:
        groups.append((name(cohort), len(CRITERIA)))
        columns += ["Strict", "Lenient"]
    body: list[list[Child]] = []
    for row in rows:
        cells: list[Child] = [tag("span", {"class": "method"}, swatch(row.style), name(row.label))]
        for cohort in cohorts:
            for criterion in CRITERIA:
                cells.append(_cell(row, rows, cohort, kind, criterion))
        body.append(cells)
    return data_table(ident, caption, columns, body, groups=groups)


def _cell(row: Row, rows: Sequence[Row], cohort: str, kind: str, criterion: str) -> Child:
    numbers = row.score(cohort, kind, criterion)
    if numbers is None:
        return tag("span", {"class": "absent"}, NOT_MEASURED)
    value: Child = share_text(numbers["f1"])
    if row in best(rows, cohort, kind, criterion):
        value = tag("strong", {}, share_text(numbers["f1"]), tag("span", {"class": "hidden"}, " (best)"))
    interval = interval_text(numbers["interval"])
    return join((value, tag("span", {"class": "interval"}, interval) if interval else ""))


def _per_type(kind: str, rows: Sequence[Row], cohorts: Sequence[str]) -> Markup:
    """Per cohort: a row per type, the strict and lenient F1 of every method."""
    tables = []
    for place, cohort in enumerate(cohorts):
        scored = [row for row in rows if row.score(cohort, kind, "strict")]
        types = {t: None for row in scored for t in (row.score(cohort, kind, "strict") or {})["per_type"]}
        if not types:
            continue
        body: list[list[Child]] = []
        for type_name in types:
            cells: list[Child] = [name(type_name)]
            gold = [_six(row, cohort, kind, "strict", type_name) for row in scored]
            cells.append(next((count_text(six["tp"] + six["fn"]) for six in gold if six), NOT_MEASURED))
            for row in scored:
                six = [_six(row, cohort, kind, criterion, type_name) for criterion in CRITERIA]
                cells += [share_text(one["f1"], 2) if one else NOT_MEASURED for one in six]
            body.append(cells)
        columns: list[Child] = ["Type", "Gold", *(["Strict", "Lenient"] * len(scored))]
        groups: list[tuple[Child, int]] = [("", 1), *((name(row.label), 2) for row in scored)]
        tables.append(
            data_table(
                f"types-{kind}-{place}", join((name(cohort), ": F1 per type.")), columns, body, groups=groups
            )
        )
    return fold(f"{SCORE_TITLES[kind]}: F1 per type", *(tables or [paragraph(f"{NOT_MEASURED}.")]))


def _six(row: Row, cohort: str, kind: str, criterion: str, type_name: str) -> Mapping[str, Any] | None:
    numbers = row.score(cohort, kind, criterion)
    found: Mapping[str, Any] | None = numbers["per_type"].get(type_name) if numbers else None
    return found


def _counts(rows: Sequence[Row], cohorts: Sequence[str]) -> Markup:
    """Everything that the F1 come from, one table per kind."""
    columns = ["Method", "Cohort", "Criterion", "tp", "fp", "fn", "Precision", "Recall", "F1", "Macro F1"]
    tables = []
    for kind, title in SCORE_TITLES.items():
        body: list[list[Child]] = []
        for row in rows:
            for cohort in cohorts:
                for criterion in CRITERIA:
                    numbers = row.score(cohort, kind, criterion)
                    if numbers is None:
                        continue
                    counts = [count_text(numbers[key]) for key in ("tp", "fp", "fn")]
                    shares = [share_text(numbers[key]) for key in ("precision", "recall", "f1", "macro_f1")]
                    body.append([name(row.label), name(cohort), criterion, *counts, *shares])
        if body:
            caption = f"{title}: counts, and what follows from them. tp: found; fp: false; fn: missed."
            tables.append(data_table(f"counts-{kind}", caption, columns, body, num_words=3))
    return fold("All counts, precision and recall", *(tables or [paragraph(f"{NOT_MEASURED}.")]))
