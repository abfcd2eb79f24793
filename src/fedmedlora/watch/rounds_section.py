"""Finished rounds on the page, and what the adapters reached on test notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fedmedlora.report.blocks import data_table, fold, items, name, paragraph, section
from fedmedlora.report.figures import Line, line_panel
from fedmedlora.report.markup import Child, Markup, join, tag
from fedmedlora.report.numbers import bytes_text, loss_text, plural, seconds_text, share_text
from fedmedlora.report.rows import method_styles
from fedmedlora.report.svg import swatch
from fedmedlora.watch.status import RoundStatus, Status

MOST_ROUNDS = 200  # in the table; the report has them all

_Value = Callable[[RoundStatus], float | None]


def rounds_section(status: Status) -> Markup:
    """Losses and F1 over finished rounds, as lines and as a table, and the weights."""
    if not status.rounds:
        return section("rounds", "Finished rounds", paragraph("None yet."))
    here = [one for one in status.rounds if one.method == status.method]
    others = [one for one in status.rounds if one.method != status.method]
    shown = [*reversed(here), *reversed(others)][:MOST_ROUNDS]
    rows: list[list[Child]] = [
        [
            name(one.method),
            str(one.round_num),
            plural(one.num_sites, "site"),
            _absent(one),
            loss_text(one.train_loss),
            loss_text(one.loss) if one.loss is not None else "–",
            share_text(one.strict_f1) if one.strict_f1 is not None else "–",
            bytes_text(one.upload_bytes),
            bytes_text(one.download_bytes),
            seconds_text(one.seconds),
        ]
        for one in shown
    ]
    columns = ["Method", "Round", "With", "Absent, and why", "Training loss", "Validation loss", "Strict F1"]
    columns += ["Up", "Down", "Time"]
    caption = "Finished rounds, the method at hand first, then newest first." + (
        f" The last {MOST_ROUNDS}; the report has them all." if len(status.rounds) > MOST_ROUNDS else ""
    )
    table = data_table("finished", caption, columns, rows, num_words=4)
    return section("rounds", "Finished rounds", _figure(status), table, _weights(shown))


def _absent(one: RoundStatus) -> Child:
    if not one.absent:
        return "–"
    lines = [tag("li", {}, name(a.site), ": ", name(a.reason)) for a in one.absent]
    return tag("ul", {"class": "reasons"}, *lines)


def _weights(shown: Sequence[RoundStatus]) -> Markup:
    sites = sorted({site for one in shown for site in one.weights})
    rows: list[list[Child]] = [
        [
            name(one.method),
            str(one.round_num),
            *(share_text(one.weights[site]) if site in one.weights else "–" for site in sites),
        ]
        for one in shown
    ]
    columns: list[Child] = ["Method", "Round", *(name(site) for site in sites)]
    table = data_table("weights", "Weight of each site in each round.", columns, rows)
    return fold("Weights of the sites, round by round", table)


def _figure(status: Status) -> Markup:
    methods = list(dict.fromkeys(one.method for one in status.rounds))
    styles = method_styles({"methods": [{"name": method} for method in methods]})
    wanted: tuple[tuple[str, str, _Value, bool], ...] = (
        ("train-loss", "Training loss", lambda one: one.train_loss, False),
        ("loss", "Loss on the validation notes", lambda one: one.loss, False),
        ("strict-f1", "Entities, strict F1", lambda one: one.strict_f1, True),
    )
    panels = []
    for ident, title, value, is_share in wanted:
        lines = [
            Line(method, styles[method], styles[method], _series(status.rounds, method, value))
            for method in methods
        ]
        if any(one is not None for line in lines for one in line.values):
            number = share_text if is_share else loss_text
            domain = (0.0, 1.0) if is_share else None
            panels.append(line_panel(f"live-{ident}", title, lines, number=number, domain=domain))
    if not panels:
        return join(())
    legend = [join((swatch(styles[m], dash=0), tag("span", {}, name(m)))) for m in methods]
    return tag(
        "figure",
        {"id": "figure-rounds"},
        tag("figcaption", {}, "After each finished round. The table below has the numbers."),
        items(legend, "legend"),
        tag("div", {"class": "panels"}, *(panel.markup() for panel in panels)),
    )


def _series(rounds: Sequence[RoundStatus], method: str, value: _Value) -> list[float | None]:
    """By round, from the first."""
    of_method = {one.round_num: value(one) for one in rounds if one.method == method}
    return [of_method.get(number) for number in range(1, max(of_method) + 1)]


def scores_section(status: Status) -> Markup:
    """What adapters reached on test notes so far."""
    rows: list[list[Child]] = [
        [
            name(one.method),
            name(one.cohort),
            one.decoding,
            share_text(one.strict_f1),
            share_text(one.lenient_f1),
        ]
        for one in status.scores
    ]
    columns = ["Method", "Cohort", "Decoding", "Strict F1", "Lenient F1"]
    caption = "Entities in the test notes, micro-F1. The report has intervals, types and modifiers."
    return section("scores", "Test notes", data_table("scores", caption, columns, rows, num_words=3))
