"""What a mapping says, once read and checked: rules that turn spans and links into the schema's.

``mapping.py`` reads them from TOML and ``to_note.py`` applies them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fedmedlora.corpora.note import Annotates
from fedmedlora.corpora.schema import Schema

ANY = "*"


@dataclass(frozen=True, slots=True)
class AttributeIs:
    """A span has an attribute ``label`` with one of ``values``."""

    label: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SpanRule:
    """Spans labelled with one of ``labels`` are a ``type``.

    Only those that hold a match of ``words``, that a relation out of ``target_of`` points at, and that have
    the ``attribute``, as far as these are given.
    """

    labels: tuple[str, ...]
    type: str
    words: re.Pattern[str] | None = None
    target_of: tuple[str, ...] = ()
    attribute: AttributeIs | None = None

    @property
    def is_conditional(self) -> bool:
        """Whether it may leave spans of its labels over."""
        return bool(self.words or self.target_of or self.attribute)


@dataclass(frozen=True, slots=True)
class LinkRule:
    """Where a link comes from. ``names``: relations, or roles, or the entity's roles, by ``form``.

    ``entities``: entity types that it applies to. ``type``: the modifier, "" for the span's own.
    ``modifier_labels``: empty for any.
    """

    form: str  # "relation", "role" or "entity_role"
    names: tuple[str, ...]
    entity_end: str
    modifier_roles: tuple[str, ...]
    modifier_labels: tuple[str, ...]
    entities: tuple[str, ...]
    words: re.Pattern[str] | None
    type: str
    attribute: AttributeIs | None = None


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping that was read and checked against ``schema``."""

    name: str
    reader: str
    inside: tuple[str, ...]
    parts: tuple[str, ...]
    ignore: frozenset[str]
    ignore_links: frozenset[str]
    entities: tuple[SpanRule, ...]
    modifiers: tuple[SpanRule, ...]
    links: tuple[LinkRule, ...]
    annotates: Annotates
    schema: Schema
    aliases: frozenset[str] = frozenset()

    def known_labels(self) -> frozenset[str]:
        """Labels of spans that some rule or ``ignore`` names."""
        found = set(self.ignore | self.aliases)
        for rule in (*self.entities, *self.modifiers):
            found.update(rule.labels)
        for link in self.links:
            found.update(link.modifier_labels)
            if link.form == "entity_role":  # such readers label a span by its role
                found.update(link.names, link.modifier_roles)
        return frozenset(found)

    def known_attributes(self) -> frozenset[str]:
        """Attributes that some rule looks at."""
        found = [rule.attribute for rule in self.entities] + [rule.attribute for rule in self.links]
        return frozenset(attribute.label for attribute in found if attribute)

    def known_links(self) -> frozenset[str]:
        """Relations and roles that some rule or ``ignore_links`` names."""
        names = {name for link in self.links for name in (*link.names, *link.modifier_roles)}
        names |= {name for rule in self.entities for name in rule.target_of}
        return frozenset(names | self.ignore_links)
