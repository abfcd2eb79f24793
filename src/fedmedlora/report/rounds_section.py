"""Training round by round: loss and F1, the weight of each site, and what each round cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedmedlora.report.blocks import data_table, figure, made_by, name, paragraph, section
from fedmedlora.report.figures import Bar, Line, bar_panel, line_panel
from fedmedlora.report.markup import Child, Markup, join
from fedmedlora.report.numbers import (
    NOT_MEASURED,
    bytes_text,
    count_text,
    loss_text,
    plural,
    seconds_text,
    share_text,
)
from fedmedlora.report.rows import has_answers, method_styles, validated_s
from fedmedlora.report.svg import swatch

Numbers = Callable[[float | None], str]


def rounds_section(results: Mapping[str, Any]) -> Markup:
    """Loss, F1 and weights over rounds."""
    methods = [method for method in results["methods"] if method["rounds"]]
    absent = _absent(results["methods"])
    if not methods:
        return section("rounds", "Training, round by round", paragraph("Nothing was trained."), *absent)
    styles = method_styles(results)
    federated = [method for method in methods if len(_sites(method)) > 1]
    by_sites = results["study"].get("validation", {}).get("by") == "sites"
    whose = (
        "notes that each site holds out, mean over sites"
        if by_sites
        else "the coordinator's validation notes"
    )
    finds_entities = not (by_sites or has_answers(results))
    made = made_by(results["command"])
    parts = [
        _validation(methods, styles, whose, made, finds_entities=finds_entities),
        _train_loss(methods, styles, made),
    ]
    if federated:
        parts.append(_weights(federated, styles, made))
        if any(
            site["validation_loss"] is not None for m in federated for r in m["rounds"] for site in r["sites"]
        ):
            parts.append(_site_validation(federated, styles, made))
    return section("rounds", "Training, round by round", *parts, *absent)


def _absent(methods: Sequence[Mapping[str, Any]]) -> tuple[Markup, ...]:
    """A table, or nothing where nobody was absent."""
    rows: list[list[Child]] = [
        [name(method["label"]), str(one["round_num"]), name(absent["site"]), absent["reason"]]
        for method in methods
        for one in method["rounds"]
        for absent in one.get("absent") or ()
    ]
    rows += [
        [name(method["label"]), "test notes", name(absent["cohort"]), absent["reason"]]
        for method in methods
        for absent in method.get("not_read") or ()
    ]
    if not rows:
        return ()
    columns = ["Method", "Round", "Site", "Why"]
    caption = "Sites that were asked and are not in a round, or did not read their test notes."
    return (data_table("absent-data", caption, columns, rows, num_words=4),)


def cost_section(results: Mapping[str, Any]) -> Markup:
    """Traffic, time and memory."""
    styles = method_styles(results)
    trained = [method for method in results["methods"] if method["rounds"]]
    parts = [_traffic(trained, styles, made_by(results["command"]))] if trained else []
    return section("cost", "Traffic, time and memory", *parts, _time(results, styles))


def _validation(
    methods: Sequence[Mapping[str, Any]],
    styles: Mapping[str, int],
    whose: str,
    made: Markup,
    *,
    finds_entities: bool,
) -> Markup:
    panels, columns = [], ["Round"]
    wanted: tuple[tuple[str, str, Numbers], ...] = (
        ("loss", "Loss on the validation notes", loss_text),
        ("ner_strict_f1", "Entities, strict F1", share_text),
        ("ner_lenient_f1", "Entities, lenient F1", share_text),
    )
    wanted = wanted if finds_entities else wanted[:1]
    series: list[tuple[Sequence[float | None], Numbers]] = []
    for key, title, number in wanted:
        lines = []
        for method in methods:
            values = [one["validation"] and one["validation"][key] for one in method["rounds"]]
            style = styles[method["name"]]
            lines.append(Line(method["label"], style, style, values))
            series.append((values, number))
            columns.append({"loss": "Loss", "ner_strict_f1": "Strict F1"}.get(key, "Lenient F1"))
        domain = None if key == "loss" else (0.0, 1.0)
        panels.append(line_panel(f"validation-{key}", title, lines, number=number, domain=domain))
    # By method first, as the reader asks for one method's three numbers.
    count = len(methods)
    order = [which * count + place for place in range(count) for which in range(len(wanted))]
    rows = _by_round([series[place] for place in order])
    groups: list[tuple[Child, int]] = [(name(method["label"]), len(wanted)) for method in methods]
    heads = [columns[0], *(columns[1 + place] for place in order)]
    data = data_table(
        "validation-data", "The new adapter on the validation notes.", heads, rows, groups=groups
    )
    legend: list[tuple[Markup, Child]] = [
        (swatch(styles[m["name"]], dash=0), name(m["label"])) for m in methods
    ]
    caption = f"After each round: the new adapter on {whose}."
    return figure("figure-validation", join((caption, made)), panels, legend, data)


def _train_loss(methods: Sequence[Mapping[str, Any]], styles: Mapping[str, int], made: Markup) -> Markup:
    caption = "Mean training loss of each site in each round, per method. All panels share one scale."
    return _per_site(
        "train-loss",
        caption,
        methods,
        styles,
        lambda one, site: _of(one, site, "train_loss"),
        loss_text,
        made,
    )


def _site_validation(methods: Sequence[Mapping[str, Any]], styles: Mapping[str, int], made: Markup) -> Markup:
    caption = (
        "Loss of each site's own adapter on the coordinator's validation notes, from which "
        "adaptive weights follow."
    )
    chosen = [
        m for m in methods if any(s["validation_loss"] is not None for r in m["rounds"] for s in r["sites"])
    ]
    value: _Value = lambda one, site: _of(one, site, "validation_loss")  # noqa: E731
    return _per_site("site-validation", caption, chosen, styles, value, loss_text, made)


def _weights(methods: Sequence[Mapping[str, Any]], styles: Mapping[str, int], made: Markup) -> Markup:
    caption = (
        "Weight of each site in each round: how much its adapter counts in the average. "
        "Thin line: all sites equal."
    )
    return _per_site(
        "weights",
        caption,
        methods,
        styles,
        lambda one, site: one["weights"].get(site),
        share_text,
        made,
        is_weight=True,
    )


_Value = Callable[[Mapping[str, Any], str], "float | None"]


def _per_site(
    ident: str,
    caption: str,
    methods: Sequence[Mapping[str, Any]],
    styles: Mapping[str, int],
    value: _Value,
    number: Numbers,
    made: Markup,
    *,
    is_weight: bool = False,
) -> Markup:
    """One panel per method, one line per site: the method's hue, the site's own sign and dashes."""
    order = list(dict.fromkeys(site for method in methods for site in _sites(method)))
    series = {
        (method["name"], site): [value(one, site) for one in method["rounds"]]
        for method in methods
        for site in _sites(method)
    }
    known = [v for values in series.values() for v in values if v is not None]
    domain = (
        (0.0, max(known, default=1.0)) if is_weight else (min(known, default=0.0), max(known, default=1.0))
    )
    panels, columns, groups, cells = [], ["Round"], list[tuple[Child, int]](), []
    for place, method in enumerate(methods):
        sites = _sites(method)
        lines = [
            Line(
                site,
                styles[method["name"]],
                order.index(site),
                series[method["name"], site],
                order.index(site),
            )
            for site in sites
        ]
        equal = (1 / len(sites), f"the weight of {plural(len(sites), 'equal site')}") if is_weight else None
        panels.append(
            line_panel(
                f"{ident}-{place}", method["label"], lines, number=number, domain=domain, reference=equal
            )
        )
        groups.append((name(method["label"]), len(sites)))
        columns += sites
        cells += [(series[method["name"], site], number) for site in sites]
    heads: list[Child] = ["Round", *(name(site) for site in columns[1:])]
    data = data_table(f"{ident}-data", caption, heads, _by_round(cells), groups=groups)
    legend: list[tuple[Markup, Child]] = [
        (swatch(place, dash=place, hue="ink"), name(site)) for place, site in enumerate(order)
    ]
    return figure(f"figure-{ident}", join((caption, made)), panels, legend, data)


def _by_round(cells: Sequence[tuple[Sequence[float | None], Numbers]]) -> list[list[Child]]:
    num_rounds = max((len(values) for values, _ in cells), default=0)
    rows: list[list[Child]] = []
    for place in range(num_rounds):
        row: list[Child] = [str(place + 1)]
        for values, number in cells:
            held = values[place] if place < len(values) else None
            row.append(NOT_MEASURED if held is None else number(held))
        rows.append(row)
    return rows


def _traffic(methods: Sequence[Mapping[str, Any]], styles: Mapping[str, int], made: Markup) -> Markup:
    totals: dict[tuple[str, str, str], list[int]] = {}
    for method in methods:
        for one in method["rounds"]:
            for site in one["sites"]:
                for way in ("upload_bytes", "download_bytes"):
                    totals.setdefault((method["name"], site["site"], way), []).append(site[way])
    high = float(max((sum(parts) for parts in totals.values()), default=0) or 1)
    panels = []
    for place, method in enumerate(methods):
        bars = [
            Bar(
                f"{site}, {word}",
                styles[method["name"]],
                parts,
                bytes_text(sum(parts)),
                way == "download_bytes",
            )
            for site in _sites(method)
            for way, word in (("upload_bytes", "up"), ("download_bytes", "down"))
            for parts in [totals[method["name"], site, way]]
        ]
        panels.append(bar_panel(f"traffic-{place}", method["label"], bars, high=high))
    rows: list[list[Child]] = [
        [
            name(method["label"]),
            str(one["round_num"]),
            name(site["site"]),
            bytes_text(site["upload_bytes"]),
            bytes_text(site["download_bytes"]),
            count_text(site["num_examples"]),
            count_text(site["num_target_tokens"]),
            seconds_text(site["seconds"]),
            bytes_text(site["peak_memory_bytes"]),
        ]
        for method in methods
        for one in method["rounds"]
        for site in one["sites"]
    ]
    columns = ["Method", "Round", "Site", "Up", "Down", "Examples", "Target tokens", "Time", "Peak memory"]
    data = data_table(
        "traffic-data", "Each site's work and traffic in each round.", columns, rows, num_words=3
    )
    caption = (
        "Traffic of each site over all rounds, one piece of a bar per round. "
        "Filled: up to the coordinator; outlined: down to the site."
    )
    return figure("figure-traffic", join((caption, made)), panels, (), data)


def _time(results: Mapping[str, Any], styles: Mapping[str, int]) -> Markup:
    training, reading, memory = [], [], []
    rows: list[list[Child]] = []
    for method in results["methods"]:
        style, label = styles[method["name"]], method["label"]
        read = sum(evaluation["seconds"] for evaluation in method["evaluations"])
        joined = sum(one["aggregate_seconds"] for one in method["rounds"])
        peaks = [s["peak_memory_bytes"] for r in method["rounds"] for s in r["sites"]]
        peak = max((p for p in peaks if p is not None), default=None)
        training.append(Bar(label, style, (method["seconds"],), seconds_text(method["seconds"])))
        reading.append(Bar(label, style, (read,), seconds_text(read)))
        memory.append(Bar(label, style, (float(peak or 0),), bytes_text(peak)))
        weighed = validated_s(method["rounds"])
        rows.append(
            [
                name(label),
                seconds_text(method["seconds"]),
                NOT_MEASURED if weighed is None else seconds_text(weighed),
                *map(seconds_text, (joined, read)),
                bytes_text(peak),
            ]
        )
    longest = max((sum(bar.parts) for bar in (*training, *reading)), default=0.0) or 1.0
    largest = max((sum(bar.parts) for bar in memory), default=0.0) or 1.0
    panels = [
        bar_panel("time-training", "Training", training, high=longest),
        bar_panel("time-reading", "Evaluation", reading, high=longest),
        bar_panel("time-memory", "Peak memory in training", memory, high=largest),
    ]
    columns = ["Method", "Training", "Validation", "Aggregation", "Evaluation", "Peak memory"]
    data = data_table("time-data", "Time and memory of each method.", columns, rows)
    caption = (
        "Time of training and evaluation, on one scale, and the most memory that a site's training held. Its "
        "numbers tell, too, how long the coordinator measured the sites' adapters before it weighed them "
        "(validation) and put them together (aggregation)."
    )
    return figure("figure-time", join((caption, made_by(results["command"]))), panels, (), data)


def _sites(method: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(site["site"] for one in method["rounds"] for site in one["sites"]))


def _of(one: Mapping[str, Any], wanted: str, key: str) -> float | None:
    return next((site[key] for site in one["sites"] if site["site"] == wanted), None)
