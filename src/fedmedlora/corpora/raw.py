"""What a format reader yields: a note with its source's own labels, before any mapping.

Laws of a reader, held by ``tests/corpora/test_reader_contract.py``: every span lies inside its text and
the source's surface agrees with the text there; notes with no annotation survive; CR LF, tabs and
non-ASCII keep offsets; nothing is dropped in silence, what is left out is counted in ``skipped``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedmedlora.corpora.note import Span


def is_label(text: str) -> bool:
    """Whether ``text`` may be shown: short, without white space. Other "labels" may be text of a note."""
    return 0 < len(text) <= 60 and not any(character.isspace() for character in text)


@dataclass(frozen=True, slots=True)
class RawSpan:
    """A labelled span. ``line``: where it stands in its file, from 1."""

    id: str
    label: str
    span: Span
    line: int


@dataclass(frozen=True, slots=True)
class RawRelation:
    """``source`` and ``target``: ids of spans (of triggers, where the file names events)."""

    label: str
    source: str
    target: str
    line: int


@dataclass(frozen=True, slots=True)
class RawEvent:
    """An event with its trigger's span id and its arguments as (role, span id); roles may repeat."""

    label: str
    trigger: str
    roles: tuple[tuple[str, str], ...]
    line: int


@dataclass(frozen=True, slots=True)
class RawAttribute:
    """An attribute of a span; ``value`` is "" for a flag."""

    label: str
    target: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class RawNote:
    """One note in its source's labels.

    ``source``: the file that the annotation stands in, for messages. ``folders``: the folders (or the
    file) it lies in, outermost first. ``skipped``: what the reader left out, by reason. ``lost``: ids
    of spans among that, so that their links can be counted too. ``groups``: equivalence classes of ids.
    """

    name: str
    text: str
    source: str
    spans: tuple[RawSpan, ...] = ()
    relations: tuple[RawRelation, ...] = ()
    events: tuple[RawEvent, ...] = ()
    attributes: tuple[RawAttribute, ...] = ()
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    folders: tuple[str, ...] = ()
    group: str = ""
    skipped: Mapping[str, int] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        """Name and sizes; a note never prints its text."""
        return f"RawNote(name={self.name!r}, num_characters={len(self.text)}, num_spans={len(self.spans)})"
