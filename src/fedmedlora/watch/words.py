"""How a run stands, in sentences: the same in the terminal and on the page."""

from __future__ import annotations

from fedmedlora.live_record import ENDED, seconds_between
from fedmedlora.report.numbers import plural, seconds_text
from fedmedlora.watch.status import SiteStatus, Status

_HEARD = ("answered", "refused")
_ASKED = (*_HEARD, "asked", "put off", "late", "absent")
STATES = {
    "not connected": "not connected",
    "idle": "not asked in this round",
    "asked": "asked",
    "put off": "not now, by its own word",
    "answered": "answered",
    "late": "late",
    "absent": "absent",
    "refused": "refused",
}


def headline(status: Status) -> str:
    """One sentence: what goes on."""
    where = status.method
    if status.method and status.round_num:
        where = f"{status.method}, round {status.round_num} of {status.num_rounds}"
    if status.stage == "stopped":
        return f"Stopped: {status.reason or 'no reason was told'}"
    if status.stage == "finished":
        return f"Finished: {plural(status.num_done, 'round')}."
    if status.stage == "":
        return f"Nobody tells what goes on here now; {plural(status.num_done, 'round')} finished."
    if not status.is_alive:
        last = f"{where}: {status.stage}" if where else status.stage
        return f"No sign of life since {clock(status.seen_utc)}. It was at: {last}."
    if status.stage == "waiting for sites":
        there = sum(bool(site.is_connected) for site in status.sites)
        return f"Waiting for sites: {there} of {len(status.sites)} connected."
    if status.stage == "training":
        return f"{where}: training, heard from {num_heard(status)} of {num_asked(status)}."
    return f"{where}: {status.stage}." if where else f"{status.stage.capitalize()}."


def num_asked(status: Status) -> int:
    """Sites that have been asked in the round at hand."""
    return sum(site.state in _ASKED for site in status.sites)


def num_heard(status: Status) -> int:
    """Those of them that have answered or refused."""
    return sum(site.state in _HEARD for site in status.sites)


def connection(site: SiteStatus) -> str:
    """Whether a site is connected."""
    if site.is_connected is None:
        return "not known"
    return "connected" if site.is_connected else "not connected" if site.seen_utc else "never connected yet"


def time_left(status: Status) -> str:
    """What the rounds that are left will take, or why nobody knows."""
    if status.stage in ENDED:
        return "none"
    if status.seconds_left is None:
        return "not known yet" if status.is_alive else "not known"
    if status.num_planned is not None and status.num_done >= status.num_planned:
        return "rounds are done"
    return f"about {_rough(status.seconds_left)}"


def _rough(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``: an estimate has no seconds."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else seconds_text(seconds)


def clock(utc: str) -> str:
    """``2026-11-29 13:41:36 UTC``."""
    return f"{utc.removesuffix('Z').replace('T', ' ')} UTC" if utc else ""


def age(utc: str, now_utc: str) -> str:
    """``12 s ago``; the page's script writes the same."""
    seconds = int(seconds_between(utc, now_utc))
    for size, unit in ((90, "s"), (90 * 60, "min"), (48 * 3600, "h")):
        if seconds < size:
            return f"{seconds // {'s': 1, 'min': 60, 'h': 3600}[unit]} {unit} ago"
    return f"{seconds // 86400} days ago"
