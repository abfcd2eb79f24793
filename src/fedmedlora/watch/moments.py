"""Times on the page."""

from __future__ import annotations

from fedmedlora.report.markup import Markup, join, tag
from fedmedlora.watch.words import age, clock


def moment(utc: str, now_utc: str) -> Markup:
    """A time, and how long ago that was."""
    return join((clock(utc), " (", since(utc, now_utc), ")"))


def since(utc: str, now_utc: str) -> Markup:
    """How long ago; the page's script keeps it right."""
    return tag("time", {"datetime": utc, "title": clock(utc)}, age(utc, now_utc))
