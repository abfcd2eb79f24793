"""A ``Status`` for the terminal. Names are shown as they are: nothing in them is read as a style."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedmedlora.report.markup import visible
from fedmedlora.report.numbers import bytes_text, loss_text, seconds_text, share_text
from fedmedlora.watch.status import SiteStatus, Status
from fedmedlora.watch.words import STATES, age, clock, connection, headline, time_left

MOST_ROUNDS = 8  # those before are on the page and in the report
_STYLES = {"answered": "green", "late": "yellow", "absent": "yellow", "refused": "red"}


def status_text(status: Status, now_utc: str, others: Sequence[str] = ()) -> RenderableType:
    """Everything; ``others``: further runs in the same state folder."""
    parts: list[RenderableType] = [
        Text(visible(status.study), style="bold"),
        Text(visible(headline(status)), style="red" if _is_bad(status) else ""),
        _facts(status, now_utc),
    ]
    if status.sites:
        parts.append(_sites(status, now_utc))
    if status.rounds:
        parts.append(_rounds(status))
    if status.scores:
        parts.append(_scores(status))
    if others:
        parts.append(Text(f"Other runs here: {visible(', '.join(others))}", style="dim"))
    return Group(*parts)


def _is_bad(status: Status) -> bool:
    return status.stage == "stopped" or (status.stage not in ("", "finished") and not status.is_alive)


def _facts(status: Status, now_utc: str) -> Text:
    of = f" of {status.num_planned}" if status.num_planned else ""
    told = [f"rounds {status.num_done}{of}", f"time left: {time_left(status)}"]
    if status.since_utc:
        told.append(f"since {clock(status.since_utc)} ({age(status.since_utc, now_utc)})")
    if status.doing and status.is_alive:
        told.append(visible(status.doing))
    return Text(" · ".join(told), style="dim")


def _sites(status: Status, now_utc: str) -> RenderableType:
    table = _table("Sites", ("site", "now"), ("weight", "up", "down", "missed", "refused"))
    reasons = []
    for site in status.sites:
        table.add_row(
            Text(visible(site.name)),
            _now(site, now_utc),
            "–" if site.weight is None else share_text(site.weight, 2),
            bytes_text(site.upload_bytes),
            bytes_text(site.download_bytes),
            str(site.num_absences),
            str(site.num_refusals + site.num_not_let_in),
        )
        if site.reason:
            reasons.append(Text(f"  {visible(site.name)}: {visible(site.reason)}"))
    return Group(table, *reasons)


def _now(site: SiteStatus, now_utc: str) -> Text:
    if site.is_connected is False:
        seen = f", seen {age(site.seen_utc, now_utc)}" if site.seen_utc else ""
        return Text(f"{connection(site)}{seen}", style="yellow")
    return Text(STATES.get(site.state, "–"), style=_STYLES.get(site.state, ""))


def _rounds(status: Status) -> RenderableType:
    """Of the method at hand; what others did is on the page and in the report."""
    done = [one.method for one in status.rounds]
    method = status.method if status.method in done else done[-1]
    rounds = [one for one in status.rounds if one.method == method]
    columns = ("round", "sites", "training loss", "validation loss", "strict F1", "time")
    table = _table(f"Finished rounds of {visible(method)}", (), columns)
    for one in rounds[-MOST_ROUNDS:]:
        table.add_row(
            str(one.round_num),
            str(one.num_sites),
            loss_text(one.train_loss),
            "–" if one.loss is None else loss_text(one.loss),
            "–" if one.strict_f1 is None else share_text(one.strict_f1),
            seconds_text(one.seconds),
        )
    absent = [
        Text(f"  round {one.round_num} without {visible(a.site)}: {visible(a.reason)}")
        for one in rounds[-MOST_ROUNDS:]
        for a in one.absent
    ]
    return Group(table, *absent)


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in words:
        table.add_column(column, overflow="fold")
    for column in numbers:
        table.add_column(column, justify="right")
    return table


def _scores(status: Status) -> Table:
    table = _table("Test notes: entities, F1 strict / lenient", ("method", "cohort", "decoding"), ("F1",))
    for one in status.scores:
        table.add_row(
            Text(visible(one.method)),
            Text(visible(one.cohort)),
            one.decoding,
            f"{share_text(one.strict_f1, 2)} / {share_text(one.lenient_f1, 2)}",
        )
    return table
