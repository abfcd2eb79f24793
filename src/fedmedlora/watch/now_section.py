"""The top of the page: how the run stands at this moment."""

from __future__ import annotations

from collections.abc import Callable

from fedmedlora.report.blocks import data_table, items, name, section
from fedmedlora.report.markup import Child, Markup, join, tag
from fedmedlora.report.numbers import bytes_text, loss_text, share_text
from fedmedlora.watch.moments import since
from fedmedlora.watch.status import RoundStatus, SiteStatus, Status
from fedmedlora.watch.words import STATES, connection, num_asked, num_heard, time_left


def now_section(status: Status, now_utc: str) -> Markup:
    """What goes on, in a few numbers, and who needs somebody's attention."""
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
        if site.is_connected is False or site.state in ("put off", "late", "absent", "refused"):
            line: list[Child] = [tag("strong", {}, name(site.name)), ": ", _short(site)]
            if site.seen_utc and not site.is_connected:
                line += [", last seen ", since(site.seen_utc, now_utc)]
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
