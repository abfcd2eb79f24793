"""A note with its annotations. Offsets are characters, ``[start, end)``, into ``Note.text``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

Fragment = tuple[int, int]  # (start, end), characters, [start, end)
Span = tuple[Fragment, ...]  # at least one fragment, ascending, disjoint


@dataclass(frozen=True, slots=True)
class Entity:
    """One mention of an entity, or (in ``Note.modifiers``) of a modifier. ``id`` is unique in its note."""

    id: str
    type: str
    span: Span

    @property
    def start(self) -> int:
        """First character of the first fragment."""
        return self.span[0][0]

    @property
    def end(self) -> int:
        """One past the last character of the last fragment."""
        return self.span[-1][1]


@dataclass(frozen=True, slots=True)
class Link:
    """``modifier`` (an id in ``Note.modifiers``) describes ``entity`` (an id in ``Note.entities``)."""

    entity: str
    modifier: str


@dataclass(frozen=True, slots=True)
class Annotates:
    """What the source of a note annotates at all: a type outside it is missing, not absent.

    ``entities``: entity types. ``pairs``: ``"entity.modifier"`` names, such as ``"problem.negation"``.
    """

    entities: frozenset[str]
    pairs: frozenset[str]

    def modifiers_of(self, entity_type: str) -> frozenset[str]:
        """Modifier types annotated on ``entity_type``."""
        head = entity_type + "."
        return frozenset(p[len(head) :] for p in self.pairs if p.startswith(head))

    def modifiers(self) -> frozenset[str]:
        """Modifier types annotated on any entity type."""
        return frozenset(p.split(".", 1)[1] for p in self.pairs)


def union(parts: Iterable[Annotates]) -> Annotates:
    """Everything that any of ``parts`` annotates."""
    entities: set[str] = set()
    pairs: set[str] = set()
    for part in parts:
        entities |= part.entities
        pairs |= part.pairs
    return Annotates(frozenset(entities), frozenset(pairs))


@dataclass(frozen=True, slots=True)
class Note:
    """One note (for some corpora: one sentence or abstract) and everything annotated in it.

    ``group`` ties notes that must stay in one split (one patient, one abstract); "" means the note
    stands alone. A note never prints its text: ``repr`` shows id and sizes only.
    """

    id: str
    text: str
    entities: tuple[Entity, ...]
    modifiers: tuple[Entity, ...]
    links: tuple[Link, ...]
    annotates: Annotates
    group: str = ""
    meta: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"Note(id={self.id!r}, num_characters={len(self.text)}, num_entities={len(self.entities)}, "
            f"num_modifiers={len(self.modifiers)}, num_links={len(self.links)})"
        )

    def text_hash(self) -> str:
        """sha256 of the text without its white space: equal for copies of one note, however wrapped."""
        return hashlib.sha256("".join(self.text.split()).encode("utf-8")).hexdigest()


def surface(text: str, span: Span) -> str:
    """The text of a span; fragments are joined by one space, as BRAT writes them."""
    return " ".join(text[start:end] for start, end in span)
