"""What a check found: whether it is in order, what there is, and what to do where it is not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """``found`` and ``advice`` are sentences without a full stop, and never hold text of a note. ``advice``
    may also stand where ``ok`` does, for what works and could be better."""

    name: str
    ok: bool
    found: str
    advice: str = ""


WIDTH = 14  # of the longest name of a finding


def worded(one: Finding) -> str:
    """The finding as a line of a table, and below it what to do."""
    line = f"{'ok    ' if one.ok else 'FAILED'}  {one.name:<{WIDTH}}  {one.found}"
    return f"{line}\n{'':<{WIDTH + 10}}-> {one.advice}" if one.advice else line
