"""Predicted mentions of many examples -> one predicted note, with ids of its own: E1.. and M1..."""

from __future__ import annotations

from collections.abc import Iterable
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
