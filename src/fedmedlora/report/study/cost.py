"""What each method costs: traffic, time, memory and trained parameters, beside the F1 that it buys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from fedmedlora.report.blocks import paragraph
from fedmedlora.report.numbers import NOT_MEASURED, bytes_text, count_text, plural, seconds_text
from fedmedlora.report.rows import validated_s
from fedmedlora.report.study.axis import common_scale, power_axis
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
from fedmedlora.report.study.points import cell_of, legend_of, point_of, reach_of
from fedmedlora.report.study.view import CALLED, Entry, Row, StudyView
from fedmedlora.report.svg import Panel
from fedmedlora.results.study_schema import MAIN

_KIND, _CRITERION = "entities", "strict"
_STEP = 10  # ticks of the axis of bytes: 10 MB, 100 MB, 1 GB


@dataclass(frozen=True, slots=True)
class Cost:
    """Means over the seeds; ``peak_bytes``: the most of any. ``up_bytes`` and ``down_bytes``: all sites.

    ``validation_s``: of the coordinator, before it weighs; None where that was not recorded.
    """

    up_bytes: float
    down_bytes: float
    training_s: float
    validation_s: float | None
    aggregation_s: float
    reading_s: float
    peak_bytes: int | None
    trained_parameters: int | None


def cost_part(view: StudyView) -> Part | None:
    """A table of the main arm's methods and F1 against the bytes that were moved; None without runs."""
    costs = _costs(view, view.rows())
    adapted = _costs(view, view.rows(adapted=True))
    if not costs and not adapted:
        return None
    told = paragraph(
        "Of the study as it stands: means over the seeds, of all rounds and sites of a run together; peak "
        "memory is the most of any. Where one site trains alone, its bytes are those that it would send. "
        "Training is the sites' time, added up; validation and aggregation are the coordinator's: it "
        "measures what the sites sent before it weighs it, where a rule asks for that, and puts it together."
    )
    pieces: list[Piece] = [_table("cost", costs)] if costs else []
    if figure := _figure(view, costs):
        pieces.append(figure)
    if adapted:
        pieces.append(_table("cost-new-site", adapted, (f"New site: {plural(len(adapted), 'method')}",)))
    return Part("cost", "Traffic, time and memory", "Traffic, time, memory", (told, *pieces))


def _costs(view: StudyView, rows: Sequence[Row]) -> dict[Row, Cost]:
    held = {row: view.records(MAIN, row.method) for row in rows if not row.is_second}
    return {row: cost_of(records) for row, records in held.items() if records}


def cost_of(records: Sequence[Entry]) -> Cost:
    """The cost of one method, from its record in every run."""
    rounds = [one for record in records for one in record["rounds"]]
    sites = [site for one in rounds for site in one["sites"]]
    peaks = [s["peak_memory_bytes"] for s in sites if s["peak_memory_bytes"] is not None]
    trained = [count for r in records if (count := r.get("trained_parameters")) is not None]
    validated = validated_s(rounds)
    return Cost(
        sum(site["upload_bytes"] for site in sites) / len(records),
        sum(site["download_bytes"] for site in sites) / len(records),
        fmean(record["seconds"] for record in records),
        None if validated is None else validated / len(records),
        sum(one["aggregate_seconds"] for one in rounds) / len(records),
        fmean(sum(e["seconds"] for e in record["evaluations"]) for record in records),
        max(peaks, default=None),
        max(trained, default=None),
    )


def _table(ident: str, costs: dict[Row, Cost], fold: Words = ()) -> StudyTable:
    columns = (
        Column("Method"),
        Column("Up", unit="bytes"),
        Column("Down", unit="bytes"),
        Column("Training", unit="s"),
        Column("Validation", unit="s"),
        Column("Aggregation", unit="s"),
        Column("Evaluation", unit="s"),
        Column("Peak memory", unit="bytes"),
        Column("Trained parameters"),
    )
    body = []
    for row, cost in costs.items():
        trained = cost.trained_parameters
        body.append(
            (
                named(row.label, None if fold else row.sign()),
                *(Cell(v, bytes_text(v)) for v in (cost.up_bytes, cost.down_bytes)),
                *(
                    Cell(v, NOT_MEASURED if v is None else seconds_text(v))
                    for v in (cost.training_s, cost.validation_s, cost.aggregation_s, cost.reading_s)
                ),
                Cell(cost.peak_bytes, bytes_text(cost.peak_bytes)),
                Cell(trained, NOT_MEASURED if trained is None else count_text(trained)),
            )
        )
    caption = ("Traffic, time, memory and trained parameters of each method.",)
    return StudyTable(ident, caption, columns, tuple(body), (MAIN,), fold)


def _figure(view: StudyView, costs: dict[Row, Cost]) -> StudyFigure | None:
    overs = view.overs()
    held = {
        (row, over): entry
        for row in costs
        for over in overs
        if (entry := view.mean(row, over, _KIND, _CRITERION)) and entry["f1"] is not None
    }
    rows = [row for row in costs if any((row, over) in held for over in overs)]
    if not rows or not any(costs[row].up_bytes for row in rows):
        return None
    moved = {row: costs[row].up_bytes + costs[row].down_bytes for row in rows}
    axis = power_axis("bytes moved (logarithmic)", moved.values(), _tick, _STEP)
    marks_y = common_scale(reach_of(map(point_of, held.values())))
    panels: list[Panel] = []
    for over in overs:
        curves = []
        for row in rows:
            point = point_of(held.get((row, over)))
            curves.append(Curve(row.label, row.style, row.shape, ((moved[row], point),) if point else ()))
        title, ident = CALLED[over].capitalize(), f"cost-f1-{len(panels)}"
        panels.append(curve_panel(ident, title, curves, axis, marks_y))
    columns = [Column("Method"), Column("Moved", unit="bytes")]
    columns += [Column(f"Mean of {CALLED[over]}", "", ("low", "high")) for over in overs]
    body = tuple(
        (
            named(row.label),
            Cell(moved[row], bytes_text(moved[row])),
            *(cell_of(held.get((row, over))) for over in overs),
        )
        for row in rows
    )
    caption: tuple[str | Name, ...] = (
        "Entities: strict F1, mean over the cohorts of a kind, against the bytes that the sites and the "
        "coordinator exchanged in training, up and down (a logarithmic scale, the same in all panels).",
    )
    table = StudyTable("cost-f1-data", caption, tuple(columns), body, (MAIN,))
    return StudyFigure("cost-f1", caption, tuple(panels), legend_of(rows), table, (MAIN,))


def _tick(num_bytes: float) -> str:
    return bytes_text(num_bytes).replace(".0 ", " ")
