"""Words of somebody else, for a terminal, a log or a page: nothing in them steers it."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` with a blank for every character that is not printable, line ends among them."""
    return "".join(c if c.isprintable() else " " for c in text)
