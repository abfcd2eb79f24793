"""What a field of a log entry or of a passport may hold: names, hashes, numbers, one of a few words.

A field says its sort, and nothing of another sort gets in or is read. That is what keeps the text of a note
out: no field takes free text, but for the words of a refusal, which are short and hold no control character.
No error shows the value that it refuses, which may be just that.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol, TypeVar, cast

from fedmedlora.audit.canonical import LARGEST
from fedmedlora.printable import printable

T = TypeVar("T")
MOST_WORDS = 300  # characters
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+@-]{0,119}")


class Sort(Protocol):
    """What a field may hold."""

    def take(self, value: Any, where: str) -> Any:
        """``value`` as the field holds it. Raises ``ValueError`` that begins with ``where``."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text of one ``pattern``; ``what`` says it to people."""

    what: str
    pattern: str

    def take(self, value: Any, where: str) -> str:
        """See ``Sort``."""
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise ValueError(f"{where}: {_kind(value)} and no {self.what}")
        return value


@dataclass(frozen=True, slots=True)
class Words:
    """A few words of a person or a program, as ``plain_words`` leaves them."""

    def take(self, value: Any, where: str) -> str:
        """See ``Sort``."""
        if not isinstance(value, str) or value != plain_words(value):
            raise ValueError(
                f"{where}: {_kind(value)} and not at most {MOST_WORDS} printable characters on one line"
            )
        return value


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from ``low`` to 2**53."""

    low: int = 0

    def take(self, value: Any, where: str) -> int:
        """See ``Sort``."""
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= LARGEST:
            raise ValueError(f"{where}: {_kind(value)} and no whole number from {self.low}")
        return value


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number."""

    def take(self, value: Any, where: str) -> float:
        """See ``Sort``."""
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"{where}: {_kind(value)} and no finite number")
        return value


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def take(self, value: Any, where: str) -> bool:
        """See ``Sort``."""
        if not isinstance(value, bool):
            raise ValueError(f"{where}: {_kind(value)} and not true or false")
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """One of ``options``."""

    options: tuple[str, ...]

    def take(self, value: Any, where: str) -> str:
        """See ``Sort``."""
        if not isinstance(value, str) or value not in self.options:
            raise ValueError(f"{where}: {_kind(value)} and none of {', '.join(map(repr, self.options))}")
        return value


@dataclass(frozen=True, slots=True)
class Only:
    """One number and no other, such as the version of a format."""

    value: int

    def take(self, value: Any, where: str) -> int:
        """See ``Sort``."""
        if type(value) is not int or value != self.value:
            raise ValueError(f"{where}: {_kind(value)} and not {self.value}, which this version reads")
        return value


@dataclass(frozen=True, slots=True)
class Setting:
    """The value of a setting: a number, a flag, or text as ``told`` leaves it."""

    def take(self, value: Any, where: str) -> Any:
        """See ``Sort``."""
        if isinstance(value, bool):
            return value
        if isinstance(value, str):
            return PLAIN.take(value, where)
        if isinstance(value, int):
            return Whole(-LARGEST).take(value, where)
        return Number().take(value, where)


@dataclass(frozen=True, slots=True)
class Maybe:
    """Nothing, or what ``sort`` takes."""

    sort: Sort

    def take(self, value: Any, where: str) -> Any:
        """See ``Sort``."""
        return None if value is None else self.sort.take(value, where)


@dataclass(frozen=True, slots=True)
class ListOf:
    """At most ``most`` of ``sort``."""

    sort: Sort
    most: int = 1000

    def take(self, value: Any, where: str) -> tuple[Any, ...]:
        """See ``Sort``."""
        if not isinstance(value, (list, tuple)) or len(value) > self.most:
            raise ValueError(f"{where}: {_kind(value)} and no list of at most {self.most}")
        return tuple(self.sort.take(one, f"{where}[{number}]") for number, one in enumerate(value))


@dataclass(frozen=True, slots=True)
class TableOf:
    """At most ``most`` keys and values."""

    key: Sort
    value: Sort
    most: int = 1000

    def take(self, value: Any, where: str) -> dict[str, Any]:
        """See ``Sort``."""
        if not isinstance(value, Mapping) or len(value) > self.most:
            raise ValueError(f"{where}: {_kind(value)} and no table of at most {self.most}")
        taken = {}
        for number, (key, inner) in enumerate(value.items(), start=1):
            name = self.key.take(key, f"{where}: key number {number}")
            taken[name] = self.value.take(inner, f"{where}.{name}")
        return taken


@dataclass(frozen=True, slots=True)
class Record:
    """A ``cls``, or a table of exactly its fields."""

    cls: type

    def take(self, value: Any, where: str) -> Any:
        """See ``Sort``."""
        return value if isinstance(value, self.cls) else from_record(self.cls, value, where)


def of(sort: Sort) -> Any:
    """A field of a dataclass that holds what ``sort`` takes."""
    return field(metadata={"sort": sort})


def refuse_wrong(record: Any, where: str = "") -> None:
    """Raise ``ValueError``, naming the field, unless every field holds what its sort takes."""
    name = where or type(record).__name__.lower()
    for each in fields(record):
        each.metadata["sort"].take(getattr(record, each.name), f"{name}: {each.name}")


def to_record(value: Any) -> Any:
    """``value`` as JSON has it: dataclasses and mappings as tables, tuples as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: to_record(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_record(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_record(inner) for inner in value]
    return value


def from_record(cls: type[T], table: Any, where: str) -> T:
    """The ``cls`` that ``to_record`` made ``table`` of. Raises ``ValueError`` that begins with ``where``."""
    known = {each.name: each.metadata["sort"] for each in fields(cast(Any, cls))}
    if not isinstance(table, dict):
        raise ValueError(f"{where}: {_kind(table)} and no table")
    missing = [name for name in known if name not in table]
    if missing:
        raise ValueError(f"{where}: {missing[0]} is missing")
    if len(table) > len(known):
        raise ValueError(f"{where}: it has a key that does not belong here; known: {', '.join(known)}")
    return cls(**{name: sort.take(table[name], f"{where}: {name}") for name, sort in known.items()})


def plain_words(text: str) -> str:
    """``text`` on one line, without what could steer a terminal, and no longer than ``MOST_WORDS``."""
    return printable(text[:MOST_WORDS])


def told(text: str) -> str:
    """``text`` where it is a plain name or number, else its sha256: who has the text can compare."""
    return text if _PLAIN.fullmatch(text) else f"sha256:{hashlib.sha256(_bytes(text)).hexdigest()}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _kind(value: object) -> str:
    if isinstance(value, (str, list, tuple, Mapping)):
        return f"holds a {type(value).__name__} of {len(value)}"
    return f"holds a {type(value).__name__}"


PLAIN = Text("plain name (letters, digits, . _ : / + @ -)", _PLAIN.pattern)
PLAIN_OR_NONE = Text("plain name", f"(?:{_PLAIN.pattern})?")
KEY = Text("name of a setting", r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,119}")
IDENTIFIER = Text("identifier", r"[A-Za-z_][A-Za-z0-9_]{0,79}")
HASH = Text("sha256 (64 lowercase hex digits)", r"[0-9a-f]{64}")
HASH_OR_NONE = Text("sha256 (64 lowercase hex digits)", r"(?:[0-9a-f]{64})?")
RUN = Text("id of a run", r"[0-9a-f]{0,32}")
SITE = Text("name of a site", r"(?![.-])[A-Za-z0-9._-]{1,64}(?<!\.)")
SITE_OR_NONE = Text("name of a site", f"(?:{SITE.pattern})?")
NODE = Text("number of a node", r"[0-9]{0,20}")
TIME = Text(
    "time such as 2026-11-29T13:36:00Z", r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]Z"
)
