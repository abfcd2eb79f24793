"""Predicted mentions of many examples -> one predicted note, with ids of its own: E1.. and M1..."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fedmedlora.corpora.note import Annotates, Entity, Link, Note, Span
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.markup import Mention
from fedmedlora.tasks.task import Answer


def assemble_entities(
    note_id: str, text: str, annotates: Annotates, results: Iterable[Answer]
) -> tuple[Entity, ...]:
    """Entities E1.. in order of the text (start, then longer first, then type), without repeats.

    ``results``: examples of task "ner" of this note and what was found in them, in any order. A type
    that ``annotates`` does not hold is left out. Raises ``ValueError`` for an example of another note.
    """
    found: set[Mention] = set()
    for example, mentions in results:
        _of_this_note(example, note_id)
        found |= {m for m in mentions if m.label in annotates.entities}
    return _numbered("E", _spans(found), text)


def assemble_note(note: Note, entities: tuple[Entity, ...], results: Iterable[Answer]) -> Note:
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
    modifiers = _numbered("M", _spans(found), note.text)
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
    entities = _numbered("E", [(e.type, e.span) for part in parts for e in part.entities], first.text)
    modifiers = _numbered("M", [(m.type, m.span) for part in parts for m in part.modifiers], first.text)
    id_of = {(e.type, e.span): e.id for e in entities}
    modifier_of = {(m.type, m.span): m.id for m in modifiers}
    links: dict[Link, None] = {}
    for part in parts:
        by_id = {mention.id: mention for mention in (*part.entities, *part.modifiers)}
        for link in part.links:
            entity, modifier = by_id[link.entity], by_id[link.modifier]
            links[Link(id_of[entity.type, entity.span], modifier_of[modifier.type, modifier.span])] = None
    return replace(first, entities=entities, modifiers=modifiers, links=tuple(links))


def _numbered(letter: str, found: Iterable[tuple[str, Span]], text: str) -> tuple[Entity, ...]:
    """Each (type, span) once, in order of the text: start, then longer first, then type."""
    ordered = sorted(set(found), key=lambda one: (one[1][0][0], -one[1][-1][1], one))
    assert all(0 <= span[0][0] < span[-1][1] <= len(text) for _, span in ordered), "a mention lies outside"
    return tuple(Entity(f"{letter}{i}", kind, span) for i, (kind, span) in enumerate(ordered, 1))


def _spans(mentions: Iterable[Mention]) -> list[tuple[str, Span]]:
    return [(m.label, ((m.start, m.end),)) for m in mentions]


def _of_this_note(example: Example, note_id: str) -> None:
    if example.note_id != note_id:
        raise ValueError(
            f"example {example.id!r} belongs to note {example.note_id!r}, not to {note_id!r}; "
            "group results by note first"
        )
