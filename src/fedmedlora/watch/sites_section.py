"""The sites on the page."""

from __future__ import annotations

from collections.abc import Mapping

from fedmedlora.report.blocks import data_table, name, paragraph, section
from fedmedlora.report.markup import Child, Markup, tag
from fedmedlora.report.numbers import bytes_text, count_text, share_text
from fedmedlora.report.svg import swatch
from fedmedlora.watch.moments import since
from fedmedlora.watch.status import SiteStatus, Status
from fedmedlora.watch.words import STATES, connection

# state -> (shape, hollow, hue): see ``svg.mark``; the shape tells it too.
_SIGNS: Mapping[str, tuple[int, bool, str]] = {
    "not connected": (1, True, "k0"),
    "idle": (0, True, "k0"),
    "asked": (0, True, "k1"),
    "put off": (5, True, "k5"),
    "answered": (0, False, "k4"),
    "late": (2, True, "k2"),
    "absent": (3, False, "k2"),
    "refused": (6, False, "k6"),
}


def sites_section(status: Status, now_utc: str) -> Markup:
    """Every site: connected or not, what became of the last question, and what it did so far."""
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
        parts.append(tag("span", {"class": "interval"}, "last seen ", since(site.seen_utc, now_utc)))
    if site.reason:
        parts.append(tag("span", {"class": "interval"}, name(site.reason)))
    return tag("div", {"class": "site"}, *parts)
