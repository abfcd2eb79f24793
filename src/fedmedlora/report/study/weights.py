"""How much each site's adapter counted in each round, for every method that several sites trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from fedmedlora.report.blocks import paragraph
from fedmedlora.report.figures import Line, line_panel
from fedmedlora.report.numbers import plural, share_text
from fedmedlora.report.study.pieces import Cell, Column, Name, Part, Sign, StudyFigure, StudyTable, Words
from fedmedlora.report.study.slugs import slugs
from fedmedlora.report.study.view import Row, StudyView
from fedmedlora.report.svg import NUM_STYLES
from fedmedlora.results.study_schema import MAIN


def weights_part(view: StudyView) -> Part | None:
    """A figure per arm, those of other arms folded; None when no round had several sites."""
    figures = [figure for arm in view.arms if (figure := _figure(view, arm))]
    if not figures:
        return None
    told = paragraph(
        "Weight of each site in each round, mean over the seeds. A site that is left out of a round has no "
        "weight in it, and the mean is over the runs in which it took part."
    )
    return Part("weights", "Weights over rounds", "Weights", (told, *figures))


def _figure(view: StudyView, arm: str) -> StudyFigure | None:
    held: dict[Row, dict[str, list[float | None]]] = {}
    for row in view.rows(arm):
        weights = _weights(view.records(arm, row.method))
        if len(weights) > 1 and not row.is_second:
            held[row] = weights
    if not held:
        return None
    order = list(dict.fromkeys(site for weights in held.values() for site in weights))
    high = max((w for weights in held.values() for ws in weights.values() for w in ws if w), default=1.0)
    ident = f"weights-{slugs(view.arms)[arm]}"
    panels = []
    for number, (row, weights) in enumerate(held.items()):
        lines = [
            Line(site, row.style, order.index(site), values, order.index(site))
            for site, values in weights.items()
        ]
        equal = (1 / len(weights), f"the weight of {plural(len(weights), 'equal site')}")
        panels.append(
            line_panel(
                f"{ident}-{number}",
                row.label,
                lines,
                number=share_text,
                domain=(0.0, high),
                reference=equal,
            )
        )
    columns = [Column("Round")]
    columns += [Column(Name(site), Name(row.label)) for row, weights in held.items() for site in weights]
    num_rounds = max(len(values) for weights in held.values() for values in weights.values())
    body = []
    for place in range(num_rounds):
        cells = [Cell(place + 1, str(place + 1))]
        for weights in held.values():
            for values in weights.values():
                value = values[place] if place < len(values) else None
                cells.append(Cell(value, "–" if value is None else share_text(value)))
        body.append(tuple(cells))
    title = Name(view.arms[arm]["title"] or arm)
    caption: Words = (title, ": weight of each site in each round. Thin line: all sites equal.")
    table = StudyTable(f"{ident}-data", caption, tuple(columns), tuple(body), (arm,))
    legend = tuple(
        (Sign(place % NUM_STYLES, "ink", place), (Name(site),)) for place, site in enumerate(order)
    )
    fold: Words = () if arm == MAIN else (title, f": {plural(len(held), 'method')}")
    return StudyFigure(ident, caption, tuple(panels), legend, table, (arm,), fold)


def _weights(records: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """By site: its weight in each round, mean over the runs that gave it one; None where none did."""
    num_rounds = max((len(record["rounds"]) for record in records), default=0)
    sites = dict.fromkeys(site for record in records for one in record["rounds"] for site in one["weights"])
    found: dict[str, list[float | None]] = {site: [] for site in sites}
    for place in range(num_rounds):
        ones = [record["rounds"][place]["weights"] for record in records if place < len(record["rounds"])]
        for site, values in found.items():
            known = [weights[site] for weights in ones if site in weights]
            values.append(fmean(known) if known else None)
    return found
