"""F1 per type: a heat map of methods by types, with every number printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from fedmedlora.report.blocks import paragraph
from fedmedlora.report.numbers import count_text, share_text
from fedmedlora.report.rows import SCORE_TITLES
from fedmedlora.report.study.pieces import (
    Cell,
    Column,
    Name,
    Part,
    StudyFigure,
    StudyTable,
    Words,
    absent,
    named,
)
from fedmedlora.report.study.plots import heat_panel
from fedmedlora.report.study.view import CALLED, Row, StudyView
from fedmedlora.results.study_schema import MAIN

_SHOWN = (("entities", "strict"), ("modifiers_gold", "lenient"), ("links_gold", "lenient"))


def types_part(view: StudyView) -> Part | None:
    """A figure per kind of score, a panel per kind of cohorts; None when nothing was scored per type."""
    figures = [figure for kind, criterion in _SHOWN if (figure := _figure(view, kind, criterion))]
    if not figures:
        return None
    told = paragraph(
        "F1 of each type, mean over the seeds, then over the cohorts that have the type. A dot marks the "
        "best method of a type; the shade only repeats the number. A type with few gold items says little."
    )
    return Part("types", "F1 per type", "Types", (told, *figures))


@dataclass(frozen=True, slots=True)
class _Types:
    """One kind of cohorts: F1 of each (method, type), and the gold items of each type."""

    means: Mapping[tuple[Row, str], float]
    num_gold: Mapping[str, int]


def _figure(view: StudyView, kind: str, criterion: str) -> StudyFigure | None:
    held = {over: _types(view, kind, criterion, over) for over in view.overs()}
    held = {over: types for over, types in held.items() if types.num_gold}
    rows = [row for row in view.rows() if any((row, n) in t.means for t in held.values() for n in t.num_gold)]
    if not rows:
        return None
    ident = f"types-{kind.replace('_', '-')}"
    labels = [row.label for row in rows]
    panels = [
        heat_panel(
            f"{ident}-{number}",
            f"Mean of {CALLED[over]}",
            labels,
            list(types.num_gold),
            [[types.means.get((row, name)) for name in types.num_gold] for row in rows],
        )
        for number, (over, types) in enumerate(held.items())
    ]
    columns = [Column("Type")]
    for over in held:
        group = f"Mean of {CALLED[over]}"
        columns += [Column("Gold", group), *(Column(Name(row.label), group) for row in rows)]
    names = dict.fromkeys(name for types in held.values() for name in types.num_gold)
    body = []
    for name in names:
        cells = [named(name)]
        for types in held.values():
            num = types.num_gold.get(name)
            cells.append(absent() if num is None else Cell(num, count_text(num)))
            for row in rows:
                value = types.means.get((row, name))
                cells.append(Cell(value, "–" if value is None else share_text(value)))
        body.append(tuple(cells))
    caption: Words = (f"{SCORE_TITLES[kind]}: {criterion} F1 of each type, methods by types.",)
    table = StudyTable(f"{ident}-data", caption, tuple(columns), tuple(body), (MAIN,))
    return StudyFigure(ident, caption, tuple(panels), (), table, (MAIN,))


def _types(view: StudyView, kind: str, criterion: str, over: str) -> _Types:
    held: dict[tuple[Row, str], list[float]] = {}
    gold: dict[str, dict[str, int]] = {}  # by type and cohort: the same for every method
    for row in view.rows():
        for cohort in view.cohorts(kind=over):
            entry = view.score(row, cohort, kind, criterion)
            for name, numbers in (entry["per_type"] if entry else {}).items():
                of = gold.setdefault(name, {})
                of[cohort] = max(of.get(cohort, 0), numbers["num_gold"])
                # Without gold, one false positive would make a 0 that the other methods do not have.
                if numbers["f1"] is not None and numbers["num_gold"]:
                    held.setdefault((row, name), []).append(numbers["f1"])
    means = {key: fmean(values) for key, values in held.items()}
    return _Types(means, {name: sum(of.values()) for name, of in gold.items()})
