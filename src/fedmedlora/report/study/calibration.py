"""Whether confidences can be believed: reliability, expected calibration error, precision over recall."""

from __future__ import annotations

from collections.abc import Sequence

from fedmedlora.report.blocks import paragraph
from fedmedlora.report.figures import Point
from fedmedlora.report.numbers import count_text, share_text
from fedmedlora.report.study.axis import share_axis
from fedmedlora.report.study.pieces import (
    Cell,
    Column,
    Name,
    Part,
    Piece,
    StudyFigure,
    StudyTable,
    Words,
    named,
)
from fedmedlora.report.study.plots import Curve, curve_panel
from fedmedlora.report.study.points import legend_of
from fedmedlora.report.study.view import Entry, Row, StudyView, by_family
from fedmedlora.report.svg import Panel
from fedmedlora.results.study_schema import MAIN

_MARKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_MOST_POINTS = 60  # of a curve: more cannot be told apart

Held = dict[tuple[Row, str], Entry]


def calibration_part(view: StudyView) -> Part | None:
    """Both figures and the table of errors, of the main arm; None when nothing was calibrated.

    Adaptations to a new site are in the table alone.
    """
    rows = {row.method: row for row in reversed((*view.rows(), *view.rows(adapted=True)))}
    held: Held = {
        (rows[c["method"]], c["cohort"]): c
        for c in view.results["calibration"]
        if c["arm"] == MAIN and c["method"] in rows
    }
    if not held:
        return None
    order = [row for row in (*view.rows(), *view.rows(adapted=True)) if any(key[0] == row for key in held)]
    told = paragraph(
        "A confidence is believable if, of the predictions that have it, as many are right: then the curve "
        "lies on the thin line. Below it, the method is too sure. The expected calibration error (ECE) is "
        "the mean distance from the line. Predictions of all seeds are taken together."
    )
    cohorts = [cohort for cohort in view.cohorts() if any(key[1] == cohort for key in held)]
    pieces: list[Piece] = [_errors(held, order, cohorts)]
    # Adaptations to a new site have no signs of their own: a curve of each could not be told from the others.
    drawn = [row for row in order if row in view.rows()]
    if drawn:
        own = {key: found for key, found in held.items() if key[0] in drawn}
        read = [cohort for cohort in cohorts if any(key[1] == cohort for key in own)]
        pieces += [_reliability(own, drawn, read), *_precision(own, drawn, read)]
    return Part("calibration", "Calibration", "Calibration", (told, *pieces))


def _errors(held: Held, rows: Sequence[Row], cohorts: Sequence[str]) -> StudyTable:
    columns = [Column("Method")]
    for cohort in cohorts:
        columns += [Column(title, Name(cohort)) for title in ("Predictions", "ECE", "Average precision")]
    body = []
    for row in rows:
        cells = [named(row.label, row.sign())]
        for cohort in cohorts:
            found = held.get((row, cohort))
            cells.append(
                Cell(found["num_predictions"], count_text(found["num_predictions"])) if found else _none()
            )
            for key in ("ece", "average_precision"):
                cells.append(Cell(found[key], share_text(found[key])) if found else _none())
        body.append(tuple(cells))
    caption = ("Entities: expected calibration error (ECE; lower is better) and average precision.",)
    return StudyTable("calibration", caption, tuple(columns), tuple(body), (MAIN,))


def _reliability(held: Held, rows: Sequence[Row], cohorts: Sequence[str]) -> StudyFigure:
    axis = share_axis("mean confidence of a bin")
    panels: list[Panel] = []
    for cohort in cohorts:
        for family, chosen in by_family(rows):
            curves = []
            for row in chosen:
                bins = [one for one in held.get((row, cohort), {}).get("bins", ()) if one["num"]]
                points = tuple((one["mean_confidence"], Point(one["share_right"], None)) for one in bins)
                curves.append(Curve(row.label, row.style, row.shape, points, row.dash))
            ident, title = f"reliability-{len(panels)}", f"{cohort}{f': {family}' if family else ''}"
            panels.append(curve_panel(ident, title, curves, axis, _MARKS, is_diagonal=True, is_shifted=False))
    titles = ("Cohort", "Method", "Bin", "Predictions", "Mean confidence", "Share right")
    body = tuple(
        (
            named(cohort),
            named(row.label),
            Cell(f"{one['low']:g} to {one['high']:g}", f"{one['low']:g} to {one['high']:g}"),
            Cell(one["num"], count_text(one["num"])),
            *(Cell(one[key], share_text(one[key])) for key in ("mean_confidence", "share_right")),
        )
        for cohort in cohorts
        for row in rows
        for one in held.get((row, cohort), {}).get("bins", ())
    )
    caption: Words = ("Entities: share of right predictions over their confidence, per cohort.",)
    table = StudyTable("reliability-data", caption, tuple(map(Column, titles)), body, (MAIN,), num_words=3)
    legend = (*legend_of(rows, line=True), (None, ("thin line: as sure as right",)))
    return StudyFigure("reliability", caption, tuple(panels), legend, table, (MAIN,))


def _precision(held: Held, rows: Sequence[Row], cohorts: Sequence[str]) -> list[StudyFigure]:
    if not any(found["curve"] for found in held.values()):
        return []
    axis = share_axis("recall")
    panels: list[Panel] = []
    for cohort in cohorts:
        for family, chosen in by_family(rows):
            curves = []
            for row in chosen:
                drawn = _thinned(held.get((row, cohort), {}).get("curve", ()))
                points = tuple((one["recall"], Point(one["precision"], None)) for one in drawn)
                curves.append(Curve(row.label, row.style, row.shape, points, row.dash))
            ident, title = f"precision-recall-{len(panels)}", f"{cohort}{f': {family}' if family else ''}"
            panels.append(curve_panel(ident, title, curves, axis, _MARKS, is_shifted=False))
    titles = ("Cohort", "Method", "Threshold", "Precision", "Recall")
    body = tuple(
        (
            named(cohort),
            named(row.label),
            *(Cell(one[key], share_text(one[key])) for key in ("threshold", "precision", "recall")),
        )
        for cohort in cohorts
        for row in rows
        for one in _thinned(held.get((row, cohort), {}).get("curve", ()))
    )
    caption: Words = ("Entities: precision over recall as predictions of less confidence are let in.",)
    table = StudyTable(
        "precision-recall-data", caption, tuple(map(Column, titles)), body, (MAIN,), num_words=2
    )
    return [
        StudyFigure("precision-recall", caption, tuple(panels), legend_of(rows, line=True), table, (MAIN,))
    ]


def _thinned(curve: Sequence[Entry]) -> list[Entry]:
    """At most ``_MOST_POINTS`` of a curve, the first and the last among them."""
    if len(curve) <= _MOST_POINTS:
        return list(curve)
    step = (len(curve) - 1) / (_MOST_POINTS - 1)
    return [curve[round(place * step)] for place in range(_MOST_POINTS)]


def _none() -> Cell:
    return Cell(None, "–")
