"""A log as a chain of hashes: one entry a line, and each holds the hash of the one before it.

    {"body": {...}, "hash": H, "kind": "asked", "previous": P, "sequence": 7, "time": "2026-11-29T13:36:00Z"}

``H`` is the sha256 of the line without its hash, in canonical JSON; ``P`` is the hash of line 6. Whoever
changes, removes, inserts or moves an entry breaks the chain there, or has to write every later entry anew.
After Haber and Stornetta, "How to Time-Stamp a Digital Document", J. Cryptology 3 (1991), section 5.1
(linking); no time-stamping service is asked, so times are those of the machine's own clock.

What a chain alone cannot show: that its last entries were cut off, or that somebody who controls the machine
wrote the whole log anew. Both show where somebody else knows a head that the log once had (``Head``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fedmedlora.audit.canonical import canonical, read_canonical
from fedmedlora.audit.entries import Entry, Head, Opened, kind_of, read_entry
from fedmedlora.audit.sorts import HASH, TIME, Whole, to_record

BEGINNING = "0" * 64  # what stands for the hash of the line before the first
MOST_BYTES = 1 << 20  # of a line
MOST_PROBLEMS = 100
_KEYS = {"body", "hash", "kind", "previous", "sequence", "time"}


@dataclass(frozen=True, slots=True)
class Link:
    """One line: an entry in its place."""

    sequence: int
    time: str
    entry: Entry
    previous: str
    hash: str

    @property
    def head(self) -> Head:
        """Of a log that ends here."""
        return Head(self.hash, self.sequence)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, at a line (from 1)."""

    line: int
    what: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What a log was found to be. ``head``: of its last entry that can be read. ``known_at``: the line of the
    head that was expected; 0 where it is not there or none was. ``log_id``: "" where it does not begin."""

    problems: tuple[Problem, ...]
    num_entries: int
    head: Head | None
    known_at: int
    log_id: str


def link(entry: Entry, previous: Head | None, time: str) -> tuple[bytes, Head]:
    """The line of ``entry`` behind the one that ``previous`` is the head of, and the head it makes."""
    sequence = 1 if previous is None else previous.num_entries + 1
    content = {
        "body": to_record(entry),
        "kind": kind_of(entry),
        "previous": BEGINNING if previous is None else previous.hash,
        "sequence": sequence,
        "time": TIME.take(time, "time"),
    }
    own = _hash(content)
    line = canonical({**content, "hash": own}) + b"\n"
    if len(line) > MOST_BYTES:
        raise ValueError(f"an entry of kind {kind_of(entry)} takes {len(line)} bytes; at most {MOST_BYTES}")
    return line, Head(own, sequence)


def read_line(line: bytes) -> Link:
    """The entry in ``line``, which ends with a line end. Raises ``ValueError`` for anything that ``link`` did
    not write, without showing it."""
    content, is_whole = _content(line)
    if not is_whole:
        raise ValueError("changed: its hash is not that of what it holds")
    return _link(content)


def verify(lines: Iterable[bytes], head: Head | str | None = None) -> Verified:
    """Every place at which ``lines`` is not the log that was written.

    ``lines``: with their line ends; only the last may lack one. ``head``: one that this log is known to have
    had, or its hash alone: the log must go through it. Without one, entries that were cut off at the end
    cannot be missed. Never raises for what the lines hold.
    """
    problems: list[Problem] = []
    last: Link | None = None
    number, log_id, known_at, is_sure = 0, "", 0, True
    for number, line in enumerate(lines, start=1):
        try:
            content, is_whole = _content(line)
            found = _link(content)
        except ValueError as error:
            problems.append(Problem(number, str(error)))
            is_sure = False  # what follows need not be what it should follow
            found = None
        if found is not None:
            what = "" if is_whole else "changed: its hash is not that of what it holds"
            what = what or _misplaced(found, last if is_sure else None, is_first=number == 1)
            if what:
                problems.append(Problem(number, what))
            elif isinstance(found.entry, Opened):
                log_id = found.entry.log_id
            if is_whole and _is(found, head):
                known_at = number
            if last is None or found.sequence > last.sequence:
                last, is_sure = found, True
        if len(problems) >= MOST_PROBLEMS:
            problems.append(Problem(number, "too much is wrong to go on from here"))
            break
    if number == 0:
        problems.append(Problem(1, "the log is empty: it holds no entry"))
    if head is not None and not known_at:
        problems.append(Problem(max(number, 1), _lost(last, head)))
    return Verified(
        tuple(problems),
        0 if last is None else last.sequence,
        None if last is None else last.head,
        known_at,
        log_id,
    )


def _misplaced(found: Link, last: Link | None, *, is_first: bool) -> str:
    """What is wrong with the place of ``found`` behind ``last`` (None: that is not known); "": nothing."""
    begins = isinstance(found.entry, Opened)
    if is_first:
        if found.sequence != 1:
            return f"the log begins with entry {found.sequence}: those before it are missing"
        return "" if begins and found.previous == BEGINNING else "not how a log begins"
    if begins:
        return "another log begins here"
    if last is None:
        return ""
    expected = last.sequence + 1
    if found.sequence > expected:
        gone = (
            f"entry {expected} is"
            if found.sequence == expected + 1
            else (f"entries {expected} to {found.sequence - 1} are")
        )
        return f"{gone} missing before it"
    if found.sequence < expected:
        return (
            f"out of place: entry {found.sequence} behind entry {last.sequence}; inserted, repeated or moved"
        )
    if found.previous != last.hash:
        return "it does not follow the line before it: one of the two is not what was written"
    return ""


def _is(found: Link, head: Head | str | None) -> bool:
    return found.head == head if isinstance(head, Head) else found.hash == head


def _lost(last: Link | None, head: Head | str) -> str:
    num_entries = 0 if last is None else last.sequence
    if isinstance(head, Head) and head.num_entries > num_entries:
        return f"the log once had {head.num_entries} entries and ends at {num_entries}: its end was cut off"
    if isinstance(head, Head):
        return f"entry {head.num_entries} is not the one whose hash is known: the log was written anew"
    return "no entry has the hash that is known: the end was cut off, or the log was written anew"


def _content(line: bytes) -> tuple[dict[str, Any], bool]:
    """What the line holds, and whether its hash is right. Raises ``ValueError`` for no line of a log."""
    if not line.endswith(b"\n"):
        if len(line) > MOST_BYTES:
            raise ValueError(f"longer than the {MOST_BYTES} bytes that an entry may have")
        raise ValueError(
            "unfinished: its writer was stopped or the disk was full; the next entry cuts it off"
        )
    content = read_canonical(line[:-1])
    if not isinstance(content, dict) or set(content) != _KEYS:
        raise ValueError(f"not an entry: it must hold exactly {', '.join(sorted(_KEYS))}")
    rest = {key: value for key, value in content.items() if key != "hash"}
    return content, content["hash"] == _hash(rest)


def _link(content: dict[str, Any]) -> Link:
    return Link(
        Whole(1).take(content["sequence"], "sequence"),
        TIME.take(content["time"], "time"),
        read_entry(content["kind"], content["body"]),
        HASH.take(content["previous"], "previous"),
        HASH.take(content["hash"], "hash"),
    )


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(content)).hexdigest()
