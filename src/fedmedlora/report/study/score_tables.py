"""The main tables: every method on every cohort, means over cohorts, and the site where it is worst."""

from __future__ import annotations

from fedmedlora.report.blocks import paragraph
from fedmedlora.report.interval_note import interval_note
from fedmedlora.report.numbers import NOT_MEASURED, share_text
from fedmedlora.report.rows import CRITERIA, SCORE_TITLES
from fedmedlora.report.study.pieces import (
    INTERVAL,
    Cell,
    Column,
    Name,
    Part,
    StudyTable,
    absent,
    named,
    share,
)
from fedmedlora.report.study.view import CALLED, Entry, StudyView, highest
from fedmedlora.results.study_schema import MAIN


def scores_part(view: StudyView) -> Part | None:
    """The main arm's scores, a table per kind; None when nothing was measured."""
    tables = [table for kind in SCORE_TITLES if (table := score_table(view, kind))]
    if not tables:
        return None
    told = paragraph(
        "F1 of the study as it stands, mean over the seeds. Strict: the same boundaries and the same type. "
        "Lenient: the same type and at least one shared character. Small numbers are 95% intervals by "
        "bootstrap over seeds and notes. A mean over cohorts counts each cohort the same. Bold, with a "
        f"dot: the best of its column. “{NOT_MEASURED}” is not zero; “n/a” means that there was nothing "
        "to find and nothing was found."
    )
    note = interval_note(
        view.results,
        [one for one in (*view.results["means"], *view.results["scores"]) if one["arm"] == MAIN],
    )
    return Part("scores", "Scores", "Scores", (told, *tables, *([paragraph(note)] if note else [])))


def score_table(view: StudyView, kind: str) -> StudyTable | None:
    """Methods by cohorts and means, strict and lenient; None when the kind was not measured."""
    rows = view.rows()
    columns: list[Column] = [Column("Method")]
    held: list[list[Entry | None]] = []
    keys: list[str] = []
    for group, key, cohort, over in _groups(view):
        for criterion in CRITERIA:
            columns.append(Column(criterion.title(), group, ("cohort",) if key == "worst_f1" else INTERVAL))
            keys.append(key)
            held.append(
                [
                    view.mean(row, over, kind, criterion)
                    if over
                    else view.score(row, cohort, kind, criterion)
                    for row in rows
                ]
            )
    if not any(entry for column in held for entry in column):
        return None
    cells = []
    for column, key in zip(held, keys, strict=True):
        top = highest(None if entry is None else entry[key] for entry in column)
        cells.append([_cell(entry, key, top) for entry in column])
    body = tuple(
        (named(row.label, row.sign()), *(column[place] for column in cells)) for place, row in enumerate(rows)
    )
    caption = f"{SCORE_TITLES[kind]}: F1 of each method, over cohorts and on each."
    return StudyTable(f"scores-{kind.replace('_', '-')}", (caption,), tuple(columns), body, (MAIN,))


def _groups(view: StudyView) -> list[tuple[str | Name, str, str, str]]:
    """(title, key of an entry, cohort, kind of cohorts) of the pairs of columns; one of the last is ""."""
    found: list[tuple[str | Name, str, str, str]] = []
    for over in view.overs():
        found.append((f"Mean of {CALLED[over]}", "f1", "", over))
        if over == "site":
            found.append(("Worst training site", "worst_f1", "", over))
    return [*found, *((Name(cohort), "f1", cohort, "") for cohort in view.cohorts())]


def _cell(entry: Entry | None, key: str, top: float | None) -> Cell:
    is_worst = key == "worst_f1"
    if entry is None:
        return absent(1 if is_worst else 2)
    value = entry[key]
    is_best = value is not None and value == top
    if not is_worst:
        return share(value, entry["interval"], is_best=is_best)
    where = entry["worst_cohort"]
    small: str | Name = "" if where is None else Name(where)
    return Cell(value, share_text(value), (where,), small, is_best=is_best)
