"""Scores of a study of instruction data: one number per method and cohort, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmedlora.report.blocks import data_table, name, paragraph, section
from fedmedlora.report.interval_note import interval_note
from fedmedlora.report.markup import Child, Markup, join, tag
from fedmedlora.report.numbers import NOT_MEASURED, count_text, interval_text, share_text
from fedmedlora.report.rows import ANSWERS, Row, best, score_rows
from fedmedlora.report.svg import swatch

_METRICS: Mapping[str, str] = {
    "exact_match": "exact answers",
    "choice": "right choices",
    "token_f1": "F1 of words",
}


def answers_section(results: Mapping[str, Any]) -> Markup:
    """All scores of all methods on all cohorts."""
    rows = score_rows(results)
    cohorts = [cohort["name"] for cohort in results["cohorts"]]
    columns: list[Child] = ["Method", *(_metric(cohort, rows) for cohort in cohorts)]
    groups: list[tuple[Child, int]] = [(name(cohort), 1) for cohort in cohorts]
    body: list[list[Child]] = []
    for row in rows:
        method = tag("span", {"class": "method"}, swatch(row.style), name(row.label))
        body.append([method, *(_cell(row, rows, cohort) for cohort in cohorts)])
    note = interval_note(results, (row.score(at, ANSWERS, "") for row in rows for at in cohorts), "records")
    return section(
        "scores",
        "Scores",
        paragraph(
            "Exact: the answer is the response, white space folded. Right choice: the choice that the model "
            "finds most likely is the response. F1 of words: without case, punctuation and articles, as "
            "SQuAD measures it. Small numbers are 95% intervals by bootstrap over records. "
            f"“{NOT_MEASURED}” is not zero. Bold, with a dot: the best of its column."
        ),
        data_table("answers", "Answers: the score of each method, per cohort.", columns, body, groups=groups),
        paragraph(note) if note else "",
    )


def _metric(cohort: str, rows: tuple[Row, ...]) -> str:
    found = [row.evaluations[cohort]["answers"] for row in rows if cohort in row.evaluations]
    told = next((one for one in found if one), None)
    if told is None:
        return NOT_MEASURED
    return f"{_METRICS[told['metric']]}, n = {count_text(told['num_records'])}"


def _cell(row: Row, rows: tuple[Row, ...], cohort: str) -> Child:
    numbers = row.score(cohort, ANSWERS, "")
    if numbers is None:
        return tag("span", {"class": "absent"}, NOT_MEASURED)
    value: Child = share_text(numbers["f1"])
    if row in best(rows, cohort, ANSWERS, ""):
        value = tag("strong", {}, share_text(numbers["f1"]), tag("span", {"class": "hidden"}, " (best)"))
    interval = interval_text(numbers["interval"])
    return join((value, tag("span", {"class": "interval"}, interval) if interval else ""))
