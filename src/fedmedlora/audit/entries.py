"""The kinds of entry that a log may hold, each a dataclass: all of them are here, and others are refused.

An entry says that something happened, with names, numbers and hashes: never what a note says, what a model
was told or what it answered. See ``sorts.py`` for what a field takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedmedlora.audit import sorts
from fedmedlora.audit.sorts import (
    HASH,
    HASH_OR_NONE,
    IDENTIFIER,
    KEY,
    NODE,
    PLAIN,
    PLAIN_OR_NONE,
    RUN,
    SITE,
    SITE_OR_NONE,
    Choice,
    Flag,
    ListOf,
    Maybe,
    Number,
    Record,
    Setting,
    TableOf,
    Text,
    Whole,
    Words,
    from_record,
    of,
    refuse_wrong,
)

FORMAT, VERSION = "fedmedlora-audit", 1
QUESTIONS = ("query.describe", "train", "evaluate.read", "evaluate.losses", "other")
FAULTS = ("failed", "no_answer", "late", "unreadable")
MOST_ARRAYS = 200  # groups of arrays that one entry names


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log ends: the hash of its last entry, and how many there are. It stands for all before it."""

    hash: str = of(HASH)
    num_entries: int = of(Whole(1))

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class Opened:
    """The first entry. ``log_id``: random, so that no two logs are taken for each other."""

    format: str = of(Choice((FORMAT,)))
    version: int = of(sorts.Only(VERSION))
    log_id: str = of(Text("id of a log", r"[0-9a-f]{32}"))

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class Repaired:
    """An unfinished line, whose writer was stopped or whose disk was full, was cut off."""

    num_bytes: int = of(Whole(1))
    sha256: str = of(HASH)

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class Versions:
    """Of the programs at work."""

    versions: Mapping[str, str] = of(TableOf(KEY, PLAIN))

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings in force that others may see. ``whose``: of the study, or of what a site allows.

    Text that is no plain name stands there by its sha256: see ``sorts.told``.
    """

    whose: str = of(Choice(("study", "site")))
    settings_hash: str = of(HASH)
    settings: Mapping[str, Any] = of(TableOf(KEY, Setting(), 5000))

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class Started:
    """A run begins, or (``is_resumed``) goes on."""

    run: str = of(RUN)
    is_resumed: bool = of(Flag())
    study_hash: str = of(HASH)
    base_model: str = of(HASH)
    tokenizer: str = of(HASH)
    sites: tuple[str, ...] = of(ListOf(SITE, 10_000))

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class Finished:
    """A run has done all it had to. ``adapters``: method -> sha256 of the file it left."""

    run: str = of(RUN)
    adapters: Mapping[str, str] = of(TableOf(PLAIN, HASH))

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class Joined:
    """A site has said what it holds. ``key_fingerprint``: sha256 of its node's public key; "" without one.

    ``fedmedlora``: the version that it says it runs.
    """

    site: str = of(SITE)
    node: str = of(NODE)
    key_fingerprint: str = of(HASH_OR_NONE)
    fedmedlora: str = of(PLAIN_OR_NONE)

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, as it left the coordinator or came to the site. ``terms``: their sha256.

    ``num_bytes``, ``sha256``: of the message. ``head``: of the coordinator's log, as it came with it.
    """

    question: str = of(Choice(QUESTIONS))
    site: str = of(SITE_OR_NONE)
    node: str = of(NODE)
    run: str = of(RUN)
    method: str = of(PLAIN_OR_NONE)
    round_num: int = of(Whole())
    terms: str = of(HASH_OR_NONE)
    num_bytes: int = of(Whole())
    sha256: str = of(HASH)
    head: Head | None = of(Maybe(Record(Head)))

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class Arrays:
    """``num_arrays`` arrays of one shape and number format. ``name``: with * for each number in it."""

    name: str = of(Text("name of arrays", r"[A-Za-z0-9_.*|:/?-]{1,200}"))
    dtype: str = of(Text("number format", r"[A-Z0-9_]{1,16}"))
    shape: tuple[int, ...] = of(ListOf(Whole(), 8))
    num_arrays: int = of(Whole(1))

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class Left:
    """What left a site: the names of its fields, its arrays, its bytes and its hash, and no content."""

    question: str = of(Choice(QUESTIONS))
    run: str = of(RUN)
    method: str = of(PLAIN_OR_NONE)
    round_num: int = of(Whole())
    fields: tuple[str, ...] = of(ListOf(KEY, 100))
    arrays: tuple[Arrays, ...] = of(ListOf(Record(Arrays), MOST_ARRAYS))
    num_bytes: int = of(Whole())
    sha256: str = of(HASH)

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class Received:
    """A site's answer, as it came to the coordinator. ``head``: of the site's log, as it came with it."""

    question: str = of(Choice(QUESTIONS))
    site: str = of(SITE_OR_NONE)
    node: str = of(NODE)
    round_num: int = of(Whole())
    num_bytes: int = of(Whole())
    sha256: str = of(HASH)
    head: Head | None = of(Maybe(Record(Head)))

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A site will not do what it was asked. ``words``: its own, as ``sorts.plain_words`` leaves them."""

    question: str = of(Choice(QUESTIONS))
    site: str = of(SITE_OR_NONE)
    node: str = of(NODE)
    words: str = of(Words())

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class Round:
    """A finished round: what each site counted for, and the adapter that came of it."""

    method: str = of(PLAIN)
    round_num: int = of(Whole(1))
    weights: Mapping[str, float] = of(TableOf(SITE, Number(), 10_000))
    adapter_hash: str = of(HASH)

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a site's update was let into a round. ``reason``: why not, as the round's record has it; the
    words of ``sorts.plain_words``, or "" where it was."""

    method: str = of(PLAIN)
    round_num: int = of(Whole(1))
    site: str = of(SITE)
    is_admitted: bool = of(Flag())
    reason: str = of(Words())

    def __post_init__(self) -> None:
        refuse_wrong(self)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something went wrong. ``error``: the kind of error, without its words, which may name files."""

    what: str = of(Choice(FAULTS))
    question: str = of(Choice(("", *QUESTIONS)))
    site: str = of(SITE_OR_NONE)
    node: str = of(NODE)
    error: str = of(IDENTIFIER)

    def __post_init__(self) -> None:
        refuse_wrong(self)


Entry = (
    Opened
    | Repaired
    | Versions
    | Settings
    | Started
    | Finished
    | Joined
    | Asked
    | Left
    | Received
    | Refusal
    | Round
    | Admission
    | Fault
)
KINDS: dict[str, type[Entry]] = {
    "log": Opened,
    "repaired": Repaired,
    "versions": Versions,
    "settings": Settings,
    "started": Started,
    "finished": Finished,
    "joined": Joined,
    "asked": Asked,
    "left": Left,
    "received": Received,
    "refused": Refusal,
    "round": Round,
    "admission": Admission,
    "fault": Fault,
}
_KIND_OF = {cls: kind for kind, cls in KINDS.items()}


def kind_of(entry: Entry) -> str:
    """The name of the entry's kind."""
    return _KIND_OF[type(entry)]


def read_entry(kind: Any, body: Any) -> Entry:
    """The entry of that ``kind`` and ``body``. Raises ``ValueError`` for an unknown kind or field."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"it is of no known kind; known: {', '.join(KINDS)}")
    return from_record(KINDS[kind], body, kind)


def error_name(error: BaseException) -> str:
    """The kind of ``error``, as an entry has it."""
    name = type(error).__name__
    return name if name.isascii() and name.isidentifier() and len(name) <= 80 else "unnamed"


def head_of(hash_: object, num_entries: object) -> Head | None:
    """The head that the other side says it has, or None where it says nothing that could be one."""
    try:
        return from_record(Head, {"hash": hash_, "num_entries": num_entries}, "head")
    except ValueError:
        return None
