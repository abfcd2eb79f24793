"""A careless annotator: a share of the annotations of notes, corrupted.

Each corrupted entity is one of: given another type, left out, ended one word too early or too late, or
joined by one that is not there, on a word drawn at random. Each corrupted modifier gets another type or is
left out. These are the kinds of error that are told apart in real annotation (missing, wrong type, wrong
boundary, spurious); in equal parts, which is ours. What is corrupted at 20 % is corrupted at 40 % too.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from fedmedlora.corpora.note import Entity, Link, Note
from fedmedlora.corpora.schema import Schema

_WORD = re.compile(r"\w+")


def corrupt(
    notes: Sequence[Note], share: float, schema: Schema, *, seed: int
) -> tuple[tuple[Note, ...], dict[str, int]]:
    """``notes`` with ``share`` (0 to 1) of their entities and of their modifiers corrupted; how many and how.

    Which ones, and how, depends on ``seed`` and ids alone. What becomes impossible (a link of a pair that is
    not annotated) goes. Raises ``ValueError`` for a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share of corrupted labels is {share}; it is from 0 to 1")
    counts: Counter[str] = Counter()
    if share == 0:
        return tuple(notes), {}
    return tuple(_corrupted(note, share, schema, seed, counts) for note in notes), dict(
        sorted(counts.items())
    )


def _corrupted(note: Note, share: float, schema: Schema, seed: int, counts: Counter[str]) -> Note:
    types = [t for t in schema.entities if t in note.annotates.entities]
    entities: list[Entity] = []
    for entity in note.entities:
        dice = _Dice(seed, note.id, "entity", entity.id)
        if entity.type not in types or dice.roll("whether") >= share:
            entities.append(entity)
            continue
        kind, found = _harm(note, entity, types, dice)
        counts[f"entity: {kind}"] += 1
        entities += found
    by_id = {entity.id: entity for entity in entities}
    modifiers: list[Entity] = []
    for modifier in note.modifiers:
        dice = _Dice(seed, note.id, "modifier", modifier.id)
        if dice.roll("whether") >= share:
            modifiers.append(modifier)
            continue
        owners = [
            by_id[link.entity] for link in note.links if link.modifier == modifier.id and link.entity in by_id
        ]
        others = _other_modifiers(note, schema, modifier, owners)
        if others and dice.roll("how") < 0.5:
            modifiers.append(replace(modifier, type=dice.one_of(others)))
            counts["modifier: another type"] += 1
        else:
            counts["modifier: left out"] += 1
    return _consistent(note, entities, modifiers)


def _harm(note: Note, entity: Entity, types: Sequence[str], dice: _Dice) -> tuple[str, list[Entity]]:
    """(what is done, what stands in its place): the first way, in an order drawn, that is possible."""
    for way in dice.order(("another type", "left out", "boundary", "spurious")):
        if way == "left out":
            return way, []
        if way == "another type" and (others := [t for t in types if t != entity.type]):
            return way, [replace(entity, type=dice.one_of(others))]
        if way == "boundary" and (moved := _moved(note.text, entity, dice)):
            return way, [moved]
        if way == "spurious" and (words := _free_words(note)):
            start, end = words[int(dice.roll("word") * len(words))]
            extra = Entity(f"{entity.id}+spurious", dice.one_of(types), ((start, end),))
            return way, [entity, extra]
    raise AssertionError("leaving out is always possible")


def _moved(text: str, entity: Entity, dice: _Dice) -> Entity | None:
    """``entity`` one word longer or shorter at its end, in an order drawn; None where neither can be."""
    start, end = entity.span[-1]
    following = _WORD.search(text, end)
    longer = following.end() if following and "\n" not in text[end : following.start()] else None
    words = [m.start() for m in _WORD.finditer(text, start, end)]
    shorter = len(text[start : words[-1]].rstrip()) + start if len(words) > 1 else None
    for new in (longer, shorter) if dice.roll("longer") < 0.5 else (shorter, longer):
        if new is not None and new > start:
            return replace(entity, span=(*entity.span[:-1], (start, new)))
    return None


def _free_words(note: Note) -> list[tuple[int, int]]:
    """Words that no entity touches."""
    taken = [fragment for entity in note.entities for fragment in entity.span]
    return [
        (m.start(), m.end())
        for m in _WORD.finditer(note.text)
        if not any(start < m.end() and m.start() < end for start, end in taken)
    ]


def _other_modifiers(note: Note, schema: Schema, modifier: Entity, owners: Sequence[Entity]) -> list[str]:
    """Types that the modifier could have instead, with every entity that it describes."""
    if not owners:
        return []
    return [
        name
        for name in schema.modifiers
        if name != modifier.type and all(f"{o.type}.{name}" in note.annotates.pairs for o in owners)
    ]


def _consistent(note: Note, entities: Sequence[Entity], modifiers: Sequence[Entity]) -> Note:
    """The note with these and the links that are still possible; modifiers that lost all links go."""
    types = {e.id: e.type for e in entities}
    names = {m.id: m.type for m in modifiers}
    links: tuple[Link, ...] = tuple(
        link
        for link in note.links
        if link.entity in types
        and link.modifier in names
        and f"{types[link.entity]}.{names[link.modifier]}" in note.annotates.pairs
    )
    linked, before = {link.modifier for link in links}, {link.modifier for link in note.links}
    kept = tuple(m for m in modifiers if m.id in linked or m.id not in before)
    return replace(note, entities=tuple(entities), modifiers=kept, links=links)


class _Dice:
    """Random numbers that depend on what they are for, not on what was drawn before."""

    def __init__(self, seed: int, *whose: str) -> None:
        self._whose = "/".join((str(seed), *whose))

    def roll(self, what: str) -> float:
        """From 0 to 1, without 1."""
        digest = hashlib.sha256(f"{self._whose}/{what}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48

    def one_of(self, choices: Sequence[str]) -> str:
        """One of ``choices``."""
        return choices[int(self.roll("choice") * len(choices))]

    def order(self, choices: Sequence[str]) -> list[str]:
        """``choices`` in an order drawn."""
        return sorted(choices, key=self.roll)
