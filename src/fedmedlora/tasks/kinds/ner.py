"""Task "ner": find the entities in a sentence. One ``Example`` per segment of a note."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.schema import Schema
from fedmedlora.tasks.assemble import assemble_entities
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.form import DEFAULT, load_form
from fedmedlora.tasks.pieces import pieces
from fedmedlora.tasks.prompts import entity_labels, instruction
from fedmedlora.tasks.segments import Segment, by_holding_segment
from fedmedlora.tasks.task import Answer, Rendered, Unplaced

NEEDS_ENTITIES = False


def labels(schema: Schema, annotates: Annotates) -> tuple[str, ...]:
    """Entity types that the source annotates."""
    return entity_labels(schema, annotates)


def examples(
    note: Note,
    segments: Sequence[Segment],
    schema: Schema,
    *,
    prompt_set: str = "study",
    scope: str = "entity",
    form: str = DEFAULT,
    with_gold: bool,
) -> Rendered:
    """One example per segment, with ids ``"note/segment"`` (from 0).

    Asked for is what the note's source annotates; if that is nothing, there are no examples. ``scope``
    plays no role. With gold, an entity that no single segment holds is unplaced: "crosses sentences".
    """
    asked = labels(schema, note.annotates)
    gold = note.entities if with_gold else ()
    if not asked:
        return Rendered((), tuple(Unplaced(note.id, "entity", e.id, "not asked for") for e in gold))
    words = instruction("ner", schema, note.annotates, prompt_set=prompt_set, form=form)
    how = load_form(form)
    by_segment, outside = by_holding_segment(gold, segments)
    unplaced = [Unplaced(note.id, "entity", entity.id, "crosses sentences") for entity in outside]
    found = []
    for index, (start, end) in enumerate(segments):
        cut = pieces(note.text, start, end)
        target: tuple[str, ...] = ()
        if with_gold:
            target, missing = how.render(cut, by_segment[index], asked)
            unplaced += [Unplaced(note.id, "entity", entity.id, reason) for entity, reason in missing]
        found.append(
            Example(
                id=f"{note.id}/{index}",
                note_id=note.id,
                task="ner",
                instruction=words,
                input=how.written(cut),
                pieces=cut,
                labels=asked,
                target=target,
                form=form,
            )
        )
    return Rendered(tuple(found), tuple(unplaced))


def annotate(note: Note, answers: Sequence[Answer]) -> Note:
    """``note`` with the entities that were found, and nothing about them yet."""
    entities = assemble_entities(note.id, note.text, note.annotates, answers)
    return replace(note, entities=entities, modifiers=(), links=())
