"""Predicted mentions of many examples -> one predicted note, with ids of its own: E1.. and M1..."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.markup import Mention

Result = tuple[Example, tuple[Mention, ...]]


def assemble_entities(
    note_id: str, text: str, annotates: Annotates, results: Iterable[Result]
) -> tuple[Entity, ...]:
    """Entities E1.. in order of the text (start, then longer first, then type), without repeats.

    ``results``: examples of task "ner" of this note and what was found in them, in any order. A type
    that ``annotates`` does not hold is left out. Raises ``ValueError`` for an example of another note.
    """
    found: set[Mention] = set()
    for example, mentions in results:
        _of_this_note(example, note_id)
        found |= {m for m in mentions if m.label in annotates.entities}
    return _numbered("E", found, text)


def assemble_note(note: Note, entities: tuple[Entity, ...], results: Iterable[Result]) -> Note:
    """``note`` with ``entities`` and predicted modifiers and links in place of its own.

    ``results``: examples of task "modifiers" about ``entities``. Modifiers M1.. are one per type and
    span, in order of the text; an example about one entity links what it found to that entity, one
    about a whole sentence links nothing. Raises ``ValueError`` for an example of another note or about
    an entity that is not in ``entities``.
    """
    ids = {entity.id for entity in entities}
    found: set[Mention] = set()
    pairs: set[tuple[str, Mention]] = set()
    for example, mentions in results:
        _of_this_note(example, note.id)
        if example.entity_id and example.entity_id not in ids:
            raise ValueError(
                f"example {example.id!r} is about entity {example.entity_id!r}, which is not among the "
                f"{len(ids)} entities of note {note.id!r}; make the examples from the same entities"
            )
        found.update(mentions)
        if example.entity_id:
            pairs |= {(example.entity_id, mention) for mention in mentions}
    modifiers = _numbered("M", found, note.text)
    id_of = {Mention(m.type, m.start, m.end): m.id for m in modifiers}
    order = {entity.id: i for i, entity in enumerate(entities)}
    ranked = sorted(pairs, key=lambda pair: (order[pair[0]], int(id_of[pair[1]][1:])))
    links = tuple(Link(entity_id, id_of[mention]) for entity_id, mention in ranked)
    return replace(note, entities=entities, modifiers=modifiers, links=links)


def merge(parts: Sequence[Note]) -> Note:
    """One note with everything that any of ``parts`` (of one note, each by another task) holds, once."""
    first, *others = parts
    if not others:
        return first
    entities = _renumbered("E", [e for part in parts for e in part.entities])
    modifiers = _renumbered("M", [m for part in parts for m in part.modifiers])
    id_of = {(e.type, e.span): e.id for e in entities}
    modifier_of = {(m.type, m.span): m.id for m in modifiers}
    links: dict[Link, None] = {}
    for part in parts:
        by_id = {mention.id: mention for mention in (*part.entities, *part.modifiers)}
        for link in part.links:
            entity, modifier = by_id[link.entity], by_id[link.modifier]
            links[Link(id_of[entity.type, entity.span], modifier_of[modifier.type, modifier.span])] = None
    return replace(first, entities=entities, modifiers=modifiers, links=tuple(links))


def _renumbered(letter: str, mentions: Iterable[Entity]) -> tuple[Entity, ...]:
    found = sorted({(m.type, m.span) for m in mentions}, key=lambda one: (one[1][0], -one[1][-1][1], one[0]))
    return tuple(Entity(f"{letter}{i}", kind, span) for i, (kind, span) in enumerate(found, 1))


def _numbered(letter: str, mentions: Iterable[Mention], text: str) -> tuple[Entity, ...]:
    ordered = sorted(mentions, key=lambda m: (m.start, -m.end, m.label))
    assert all(0 <= m.start < m.end <= len(text) for m in ordered), "a mention lies outside its note"
    return tuple(Entity(f"{letter}{i}", m.label, ((m.start, m.end),)) for i, m in enumerate(ordered, 1))


def _of_this_note(example: Example, note_id: str) -> None:
    if example.note_id != note_id:
        raise ValueError(
            f"example {example.id!r} belongs to note {example.note_id!r}, not to {note_id!r}; "
            "group results by note first"
        )
