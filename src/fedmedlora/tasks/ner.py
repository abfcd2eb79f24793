"""Task "ner": copy a sentence and tag the entities in it. One ``Example`` per segment of a note."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedmedlora.corpora.note import Entity, Note
from fedmedlora.corpora.schema import Schema
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.markup import render
from fedmedlora.tasks.pieces import pieces
from fedmedlora.tasks.prompts import entity_labels, instruction

Segment = tuple[int, int]  # (start, end), characters of the note


@dataclass(frozen=True, slots=True)
class Unplaced:
    """One annotation that no target holds. It still counts as gold.

    ``kind``: "entity", "modifier" or "link". ``id``: that of the annotation; for a link
    ``"entity_id>modifier_id"``. ``reason``: one of ``markup.REASONS``, or what its task states.
    """

    note_id: str
    kind: str
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """The examples of one note under one task, and what they could not express."""

    examples: tuple[Example, ...]
    unplaced: tuple[Unplaced, ...]


def examples(
    note: Note,
    segments: Sequence[Segment],
    schema: Schema,
    *,
    prompt_set: str = "study",
    with_gold: bool,
) -> Rendered:
    """One example per segment, with ids ``"note/segment"`` (from 0).

    Asked for is what the note's source annotates; if that is nothing, there are no examples. With
    gold, an entity that no single segment holds is unplaced: "crosses sentences".
    """
    labels = entity_labels(schema, note.annotates)
    gold = note.entities if with_gold else ()
    if not labels:
        return Rendered((), tuple(Unplaced(note.id, "entity", e.id, "not asked for") for e in gold))
    words = instruction("ner", schema, note.annotates, prompt_set=prompt_set)
    by_segment, outside = by_holding_segment(gold, segments)
    unplaced = [Unplaced(note.id, "entity", entity.id, "crosses sentences") for entity in outside]
    found = []
    for index, (start, end) in enumerate(segments):
        cut = pieces(note.text, start, end)
        target: tuple[str, ...] = ()
        if with_gold:
            target, missing = render(cut, by_segment[index], labels)
            unplaced += [Unplaced(note.id, "entity", entity.id, reason) for entity, reason in missing]
        found.append(
            Example(
                id=f"{note.id}/{index}",
                note_id=note.id,
                task="ner",
                instruction=words,
                input=tuple(piece.form for piece in cut),
                pieces=cut,
                labels=labels,
                target=target,
            )
        )
    return Rendered(tuple(found), tuple(unplaced))


def by_holding_segment(
    entities: Sequence[Entity], segments: Sequence[Segment]
) -> tuple[list[list[Entity]], list[Entity]]:
    """Entities by the index of the first segment that holds all of them, and those held by none."""
    held: list[list[Entity]] = [[] for _ in segments]
    outside: list[Entity] = []
    for entity in entities:
        index = next((i for i, (s, e) in enumerate(segments) if s <= entity.start and entity.end <= e), None)
        (outside if index is None else held[index]).append(entity)
    return held, outside
