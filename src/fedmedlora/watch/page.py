"""A ``Status`` as one HTML page that keeps itself up to date.

Style and escaping are those of the report. The page may load nothing but itself and ``/status.json``: its
policy names the hashes of its one script and its one style sheet. Without the script it loads itself anew.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from fedmedlora.live_record import ENDED
from fedmedlora.report.blocks import items, name
from fedmedlora.report.markup import Child, Markup, join, tag
from fedmedlora.report.shell import style
from fedmedlora.watch.moments import moment
from fedmedlora.watch.now_section import now_section
from fedmedlora.watch.rounds_section import rounds_section, scores_section
from fedmedlora.watch.sites_section import sites_section
from fedmedlora.watch.status import Status
from fedmedlora.watch.words import headline

RELOAD_S = 5


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
        told += ["Since ", moment(status.since_utc, now_utc), ". "]
    if status.doing and status.is_alive:
        told += ["At hand: ", name(status.doing), ". "]
    if status.began_utc:
        told += ["The coordinator began at ", moment(status.began_utc, now_utc), "."]
    return tag("p", {"class": "when"}, *told)


def _parts(status: Status, now_utc: str) -> dict[str, tuple[Child, Markup]]:
    parts: dict[str, tuple[Child, Markup]] = {
        "now": ("Now", now_section(status, now_utc)),
        "sites": ("Sites", sites_section(status, now_utc)),
        "rounds": ("Rounds", rounds_section(status)),
    }
    if status.scores:
        parts["scores"] = ("Test notes", scores_section(status))
    return parts
