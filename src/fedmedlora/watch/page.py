"""A ``Status`` as one HTML page that keeps itself up to date.

Style and escaping are those of the report. The page may load nothing but itself and ``/status.json``: its
policy names the hashes of its one script and its one style sheet. Without the script it loads itself anew.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files

from fedmedlora.live_record import ENDED
from fedmedlora.report.blocks import data_table, fold, items, name, paragraph, section
from fedmedlora.report.figures import Line, line_panel
from fedmedlora.report.markup import Child, Markup, join, tag
from fedmedlora.report.numbers import (
    bytes_text,
    count_text,
    loss_text,
    plural,
    seconds_text,
    share_text,
)
from fedmedlora.report.rows import method_styles
from fedmedlora.report.shell import style
from fedmedlora.report.svg import swatch
from fedmedlora.watch.status import RoundStatus, SiteStatus, Status
from fedmedlora.watch.words import STATES, age, clock, connection, headline, num_asked, num_heard, time_left

MOST_ROUNDS = 200  # in the table of rounds; the report has them all
RELOAD_S = 5
# state -> (shape, hollow, hue): see ``svg.mark``; the shape tells it too.
_SIGNS: Mapping[str, tuple[int, bool, str]] = {
    "not connected": (1, True, "k0"),
    "idle": (0, True, "k0"),
    "asked": (0, True, "k1"),
    "answered": (0, False, "k4"),
    "late": (2, True, "k2"),
    "absent": (3, False, "k2"),
    "refused": (6, False, "k6"),
}


@cache
def _own(file: str) -> str:
    return files("fedmedlora.watch").joinpath(file).read_text(encoding="utf-8")


def _style() -> str:
    return style("colours.css", "figures.css", "style.css") + _own("page.css")


@cache
def policy() -> str:
    """The Content-Security-Policy that the page is served under."""
    script, sheet = (_hash(text) for text in (_own("page.js"), _style()))
    return (
        f"default-src 'none'; script-src {script}; style-src {sheet}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def page(status: Status | None, now_utc: str, problem: str = "") -> str:
    """The whole page. ``status`` None: it cannot be read, for the reason ``problem``."""
    title = status.study if status else "A run"
    parts = _parts(status, now_utc) if status else {}
    told = headline(status) if status else f"The run's files cannot be read: {problem}"
    links = [tag("a", {"href": f"#{ident}"}, words) for ident, (words, _) in parts.items()]
    body = (
        tag("a", {"class": "skip", "href": "#content"}, "Skip to the content"),
        tag(
            "header",
            {"data-live": "header"},
            tag("p", {"class": "kicker"}, "fedmedlora · a run as it goes on"),
            tag("h1", {}, name(title)),
            tag("p", {"class": "told", "role": "status", "aria-live": "polite"}, _badge(status), name(told)),
            _since(status, now_utc) if status else "",
        ),
        tag(
            "p",
            {"id": "lost", "class": "notice", "role": "alert", "hidden": ""},
            "The program behind this page does not answer. What is shown is from before; start ",
            tag("code", {}, "fedmedlora watch --serve"),
            " again.",
        ),
        tag("nav", {"aria-label": "Contents", "data-live": "nav"}, items(links)),
        tag(
            "main",
            {"id": "content", "tabindex": -1, "data-live": "main"},
            *(part for _, part in parts.values()),
        ),
        tag(
            "footer",
            {},
            "Served on this machine alone. Names, counts and times; nothing of any note. ",
            "Numbers for programs: ",
            tag("a", {"href": "/status.json"}, "status.json"),
            ", for Prometheus: ",
            tag("a", {"href": "/metrics"}, "metrics"),
            ".",
        ),
        tag("script", {}, Markup(_own("page.js"))),
    )
    head = (
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("meta", {"name": "color-scheme", "content": "light dark"}),
        tag("meta", {"name": "referrer", "content": "no-referrer"}),
        tag("link", {"rel": "icon", "href": "data:,"}),
        tag("noscript", {}, tag("meta", {"http-equiv": "refresh", "content": RELOAD_S})),
        tag("title", {}, f"{title}: fedmedlora"),
        tag("style", {}, Markup(_style())),
    )
    document = tag("html", {"lang": "en"}, tag("head", {}, *head), tag("body", {}, *body))
    return join((Markup("<!doctype html>\n"), document, Markup("\n"))).source


def _badge(status: Status | None) -> Markup:
    if status is None:
        return tag("span", {"class": "badge bad"}, "not readable")
    if status.stage in ENDED:
        return tag(
            "span", {"class": f"badge {'good' if status.stage == 'finished' else 'bad'}"}, status.stage
        )
    if status.is_alive is None:
        return tag("span", {"class": "badge"}, "not live")
    return tag(
        "span",
        {"class": "badge good" if status.is_alive else "badge bad"},
        "live" if status.is_alive else "silent",
    )


def _since(status: Status, now_utc: str) -> Markup:
    told: list[Child] = []
    if status.since_utc:
        told += ["Since ", _time(status.since_utc, now_utc), ". "]
    if status.doing and status.is_alive:
        told += ["At hand: ", name(status.doing), ". "]
    if status.began_utc:
        told += ["The coordinator began at ", _time(status.began_utc, now_utc), "."]
    return tag("p", {"class": "when"}, *told)


def _time(utc: str, now_utc: str) -> Markup:
    return join((clock(utc), " (", _ago(utc, now_utc), ")"))


def _ago(utc: str, now_utc: str) -> Markup:
    return tag("time", {"datetime": utc, "title": clock(utc)}, age(utc, now_utc))


def _parts(status: Status, now_utc: str) -> dict[str, tuple[Child, Markup]]:
    parts: dict[str, tuple[Child, Markup]] = {
        "now": ("Now", _now(status, now_utc)),
        "sites": ("Sites", _sites(status, now_utc)),
        "rounds": ("Rounds", _rounds(status)),
    }
    if status.scores:
        parts["scores"] = ("Test notes", _scores(status))
    return parts


def _now(status: Status, now_utc: str) -> Markup:
    known = [site.is_connected for site in status.sites if site.is_connected is not None]
    up, down = (sum(getattr(s, way) for s in status.sites) for way in ("upload_bytes", "download_bytes"))
    heard = f"heard from {num_heard(status)} of {num_asked(status)} asked"
    cards = [
        _card(
            "Rounds finished",
            f"{status.num_done} of {status.num_planned}" if status.num_planned else str(status.num_done),
            _bar(status),
        ),
        _card("Time left", time_left(status), "for rounds; reading test notes comes on top"),
        _card(
            "Sites connected",
            f"{sum(known)} of {len(known)}" if known else "not known",
            heard if status.stage == "training" else "",
        ),
        _card("Traffic", bytes_text(up + down), f"{bytes_text(up)} up, {bytes_text(down)} down"),
        *(
            _card(title, number(value(last)), f"{last.method}, round {last.round_num}")
            for title, number, value in _MEASURED
            for last in _last(status, value)
        ),
    ]
    return section(
        "now", "Now", _attention(status, now_utc), tag("div", {"class": "cards"}, *cards), _methods(status)
    )


_Value = Callable[[RoundStatus], float | None]
_MEASURED: tuple[tuple[str, Callable[[float | None], str], _Value], ...] = (
    ("Validation loss", loss_text, lambda one: one.loss),
    ("Entities, strict F1", share_text, lambda one: one.strict_f1),
)


def _last(status: Status, value: _Value) -> list[RoundStatus]:
    """The last round of the method at hand in which something was measured, else of another one."""
    known = [one for one in status.rounds if value(one) is not None]
    return ([one for one in known if one.method == status.method] or known)[-1:]


def _bar(status: Status) -> Child:
    if not status.num_planned:
        return ""
    most: dict[str, str | int] = {"max": status.num_planned, "value": status.num_done}
    return tag("progress", {**most, "aria-label": "Rounds finished"})


def _attention(status: Status, now_utc: str) -> Child:
    """Sites that somebody should look after."""
    if not status.is_alive:
        return ""
    lines = []
    for site in status.sites:
        if site.is_connected is False or site.state in ("late", "absent", "refused"):
            line: list[Child] = [tag("strong", {}, name(site.name)), ": ", _short(site)]
            if site.seen_utc and not site.is_connected:
                line += [", last seen ", _ago(site.seen_utc, now_utc)]
            if site.reason and not site.reason.startswith("not connected"):
                line += [": ", name(site.reason)]
            lines.append(join(line))
    return tag("div", {"class": "notice"}, items(lines, "findings")) if lines else ""


def _short(site: SiteStatus) -> str:
    return STATES[site.state] if site.is_connected else connection(site)


def _card(term: str, value: str, note: Child) -> Markup:
    big = tag("span", {"class": "big"}, value)
    quiet = tag("span", {"class": "gain"}, note) if note else ""
    return tag("div", {"class": "card"}, tag("dl", {}, tag("dt", {}, term), tag("dd", {}, big, quiet)))


def _methods(status: Status) -> Markup:
    if len(status.methods) < 2:
        return join(())
    rows: list[list[Child]] = [
        [
            name(one.name),
            "at work" if one.name == status.method and status.is_alive else "",
            str(one.num_done) + ("" if one.num_planned is None else f" of {one.num_planned}"),
        ]
        for one in status.methods
    ]
    columns = ["Method", "Now", "Rounds finished"]
    return data_table("methods", "Methods of the study, in their order.", columns, rows, num_words=2)


def _sites(status: Status, now_utc: str) -> Markup:
    if not status.sites:
        return section("sites", "Sites", paragraph("No site is known yet."))
    rows: list[list[Child]] = [
        [
            name(site.name),
            _state(site, now_utc),
            share_text(site.weight, 2) if site.weight is not None else "–",
            bytes_text(site.upload_bytes),
            bytes_text(site.download_bytes),
            count_text(site.num_rounds),
            _count(site.num_absences),
            _count(site.num_refusals + site.num_not_let_in),
        ]
        for site in status.sites
    ]
    columns = ["Site", "Now", "Weight", "Up", "Down", "Rounds", "Absent", "Refusals"]
    told = (
        "Weight: in the last finished round of the method at hand. Rounds: finished ones with the site; "
        "absent: without it. Refusals: questions that it would not answer, and updates of it that were not "
        "let in."
    )
    table = data_table("all-sites", "Every site of the study.", columns, rows, num_words=2)
    return section("sites", "Sites", table, tag("p", {"class": "tally"}, told))


def _count(num: int) -> Child:
    return tag("strong", {"class": "many"}, count_text(num)) if num else "0"


def _state(site: SiteStatus, now_utc: str) -> Markup:
    """Connected or not, and what became of the last question."""
    if site.is_connected is None:
        return tag("span", {}, "not known")
    told = connection(site)
    if site.is_connected or site.state not in ("not connected", "idle"):
        told += f", {STATES[site.state]}"
    shape, hollow, hue = _SIGNS[site.state if site.is_connected else "not connected"]
    parts: list[Child] = [
        tag("span", {"class": "state"}, swatch(shape, hollow=hollow, hue=hue), tag("span", {}, told))
    ]
    if site.seen_utc and not site.is_connected:
        parts.append(tag("span", {"class": "interval"}, "last seen ", _ago(site.seen_utc, now_utc)))
    if site.reason:
        parts.append(tag("span", {"class": "interval"}, name(site.reason)))
    return tag("div", {"class": "site"}, *parts)


def _rounds(status: Status) -> Markup:
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


def _scores(status: Status) -> Markup:
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
