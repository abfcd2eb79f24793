"""External validation: F1 of every method on notes of other sources, and what federation adds to one site."""

from __future__ import annotations

from fedmedlora.report.blocks import paragraph
from fedmedlora.report.figures import IntervalRow, interval_panel
from fedmedlora.report.rows import CRITERIA, SCORE_TITLES
from fedmedlora.report.study.differences import told_of, turned
from fedmedlora.report.study.pieces import (
    INTERVAL,
    Cell,
    Column,
    Name,
    Part,
    Piece,
    StudyFigure,
    StudyTable,
    named,
    word,
)
from fedmedlora.report.study.plots import DifferenceRow, difference_panel
from fedmedlora.report.study.points import cell_of, point_of, strict_and_lenient
from fedmedlora.report.study.view import FAMILIES, Entry, Row, StudyView
from fedmedlora.report.svg import Panel
from fedmedlora.results.study_schema import COHORT_PREFIX, MAIN

OVER = "external"
_PLOTTED = ("entities", "modifiers_gold")


def external_part(view: StudyView) -> Part | None:
    """Forest plots per external cohort and over all of them; None without external cohorts."""
    cohorts = view.cohorts(kind=OVER)
    pieces: list[Piece] = []
    for kind in _PLOTTED if cohorts else ():
        pieces += [piece for piece in (_forest(view, kind, cohorts), _gains(view, kind, cohorts)) if piece]
    if not pieces:
        return None
    told = paragraph(
        "External cohorts come from sources that no method was trained on: what is learned at the training "
        "sites is of use elsewhere only as far as it shows here."
    )
    return Part("external", "External validation", "External validation", (told, *pieces))


def _forest(view: StudyView, kind: str, cohorts: list[str]) -> StudyFigure | None:
    places = [*cohorts, ""] if len(cohorts) > 1 else cohorts  # "": the mean over them
    held: dict[tuple[str, Row], list[Entry | None]] = {}
    for cohort in places:
        for row in view.rows():
            held[cohort, row] = [
                view.score(row, cohort, kind, c) if cohort else view.mean(row, OVER, kind, c)
                for c in CRITERIA
            ]
    rows = [row for row in view.rows() if any(any(held[cohort, row]) for cohort in places)]
    if not rows:
        return None
    ident = f"external-{kind.replace('_', '-')}"
    panels = []
    for number, cohort in enumerate(places):
        drawn = []
        for row in rows:
            strict, lenient = map(point_of, held[cohort, row])
            drawn.append(IntervalRow(row.label, row.style, strict, lenient, row.shape))
        panels.append(interval_panel(f"{ident}-{number}", cohort or "Mean of the external cohorts", drawn))
    columns = [Column("Method")]
    for cohort in places:
        group: str | Name = Name(cohort) if cohort else "Mean"
        columns += [Column(criterion.title(), group, INTERVAL) for criterion in CRITERIA]
    body = tuple(
        (named(row.label), *(cell_of(entry) for cohort in places for entry in held[cohort, row]))
        for row in rows
    )
    caption = (f"{SCORE_TITLES[kind]}: F1 of each method on external cohorts, with 95% intervals.",)
    table = StudyTable(f"{ident}-data", caption, tuple(columns), body, (MAIN,))
    legend = (*strict_and_lenient(), (None, ("numbers: strict · lenient",)))
    return StudyFigure(ident, caption, tuple(panels), legend, table, (MAIN,))


def _gains(view: StudyView, kind: str, cohorts: list[str]) -> StudyFigure | None:
    """Each federated method less the single site that is best over the external cohorts."""
    # A study compares each pair once, in the order of its methods: whichever of the two is named first.
    held = {
        (c["over"], c["a"], c["b"], c["criterion"], c["decoding"]): c
        for found in view.results["comparisons"]
        if found["arm"] == MAIN and found["kind"] == kind
        for c in (turned(found), found)
    }
    overs = [OVER, *(COHORT_PREFIX + cohort for cohort in cohorts)] if len(cohorts) > 1 else []
    overs = overs or [OVER if any(key[0] == OVER for key in held) else COHORT_PREFIX + cohorts[0]]
    panels: list[Panel] = []
    body: list[tuple[Cell, ...]] = []
    ident = f"external-gain-{kind.replace('_', '-')}"
    for over in overs:
        drawn = []
        for row in view.rows():
            best = _best_single(view, row, kind, {key[2] for key in held if key[:2] == (over, row.method)})
            if row.family != FAMILIES[2] or best is None:
                continue
            found = [held.get((over, row.method, best, c, row.decoding)) for c in CRITERIA]
            strict, lenient = (
                point_of(c and {"f1": c["difference"], "interval": c["interval"]}) for c in found
            )
            label = f"{row.label} − {view.label(best)}"
            words = " · ".join(map(told_of, found))
            drawn.append(DifferenceRow(label, row.style, row.shape, strict, lenient, words))
            where: str | Name = Name(over.removeprefix(COHORT_PREFIX)) if over != OVER else "mean"
            first = named(where.text) if isinstance(where, Name) else word(where)
            cells = [_difference(c) for c in found]
            body.append((first, named(row.label), named(view.label(best)), *cells))
        if drawn:
            title = over.removeprefix(COHORT_PREFIX) if over != OVER else "Mean of the external cohorts"
            panels.append(difference_panel(f"{ident}-{len(panels)}", title, drawn))
    if not panels:
        return None
    caption = (
        f"{SCORE_TITLES[kind]}: F1 of each federated method less that of the best single site, on external "
        "cohorts, with 95% intervals. Best: the highest strict F1 over the external cohorts.",
    )
    columns = (
        Column("Cohort"),
        Column("Federated"),
        Column("Best single site"),
        *(Column(f"{criterion.title()} difference", "", (*INTERVAL, "Holm p")) for criterion in CRITERIA),
    )
    table = StudyTable(f"{ident}-data", caption, columns, tuple(body), (MAIN,), num_words=3)
    legend = (*strict_and_lenient(), (None, ("right of the line: the federated method is better",)))
    return StudyFigure(ident, caption, tuple(panels), legend, table, (MAIN,))


def _best_single(view: StudyView, row: Row, kind: str, compared: set[str]) -> str | None:
    """The single site with the highest mean F1 over external cohorts, out of those compared with ``row``."""
    found = []
    for other in view.rows():
        if other.method.startswith("single_site:") and other.method in compared:
            mean = view.mean(other, OVER, kind, "strict")
            if other.decoding == row.decoding:
                found.append((mean["f1"] or 0.0 if mean else 0.0, other.method))
    return max(found, key=lambda one: one[0])[1] if found else None


def _difference(comparison: Entry | None) -> Cell:
    if comparison is None:
        return Cell(None, told_of(None), (None, None, None))
    low, high = comparison["interval"] or (None, None)
    return Cell(comparison["difference"], told_of(comparison), (low, high, comparison["p_holm"]))
