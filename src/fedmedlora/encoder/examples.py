"""A note -> what a token classifier reads, and back: word pieces with one O, B or I per type.

Types are decided one by one, so entities of different types may overlap, and a type that the note's source
does not annotate is left out of the loss instead of being taught as absent. For modifiers, one entity at
a time is marked in the sentence, and the question is asked about it (Zhong and Chen, "A Frustratingly Easy
Approach for Entity and Relation Extraction", https://arxiv.org/abs/2010.12812, mark entities in the text;
here the mark is an embedding added to the entity's tokens).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmedlora.corpora.note import Entity, Note
from fedmedlora.corpora.schema import Schema
from fedmedlora.corpora.sentences import sentences
from fedmedlora.tasks.prompts import entity_labels, modifier_labels
from fedmedlora.tasks.segments import by_holding_segment

OUTSIDE, BEGIN, INSIDE = 0, 1, 2
NER, MODIFIERS = "ner", "modifiers"


@dataclass(frozen=True)
class TaggedExample:
    """One stretch of a note under one task.

    ``ids``: word pieces, special ones included. ``offsets``: characters of each in the note, (0, 0) of
    special ones. ``mark``: 0, or 1 + the entity type's place in the schema at the given entity's pieces.
    ``asked``: places of the types in question, out of the schema's entities or modifiers. ``tags``
    (num_pieces, num_types).
    """

    note_id: str
    task: str
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    mark: tuple[int, ...]
    asked: tuple[int, ...]
    tags: np.ndarray
    entity_id: str = ""


def tagged_examples(
    note: Note, schema: Schema, tokenizer: Any, *, tasks: Sequence[str], max_tokens: int, with_gold: bool
) -> tuple[tuple[TaggedExample, ...], int]:
    """(examples of ``note``, how many gold mentions none of them can hold).

    Sentences are those of the generative tasks: joined where a given entity would be cut. A sentence of more
    than ``max_tokens`` pieces is cut into stretches of so many. Entities asked about (``modifiers``) are the
    note's.
    """
    found: list[TaggedExample] = []
    num_lost = 0
    joined = sentences(note.text, keep=[(e.start, e.end) for e in note.entities])
    asked_entities = [schema.entities.index(t) for t in entity_labels(schema, note.annotates)]
    if NER in tasks and asked_entities:
        gold = [e for e in note.entities if e.type in note.annotates.entities] if with_gold else []
        for start, end in joined if with_gold else sentences(note.text):
            inside = [e for e in gold if start <= e.start and e.end <= end]
            for ids, offsets in _stretches(note.text, start, end, tokenizer, max_tokens):
                tags = np.zeros((len(ids), len(schema.entities)), np.int64)
                for entity in inside:
                    num_lost += not _tag(tags[:, schema.entities.index(entity.type)], offsets, entity)
                found.append(
                    TaggedExample(note.id, NER, ids, offsets, (0,) * len(ids), tuple(asked_entities), tags)
                )
    if MODIFIERS in tasks:
        by_entity: dict[str, list[Entity]] = {}
        by_id = {m.id: m for m in note.modifiers}
        for link in note.links if with_gold else ():
            by_entity.setdefault(link.entity, []).append(by_id[link.modifier])
        able = [e for e in note.entities if modifier_labels(schema, note.annotates, e.type)]
        for (start, end), entities in zip(joined, by_holding_segment(able, joined)[0], strict=True):
            if not entities:
                continue
            stretches = list(_stretches(note.text, start, end, tokenizer, max_tokens))
            for entity in entities:
                labels = modifier_labels(schema, note.annotates, entity.type)
                for ids, offsets in stretches:
                    marked = [_touches(piece, entity) for piece in offsets]
                    if not any(marked):
                        continue
                    tags = np.zeros((len(ids), len(schema.modifiers)), np.int64)
                    for modifier in by_entity.get(entity.id, ()):
                        if modifier.type in labels:
                            place = schema.modifiers.index(modifier.type)
                            num_lost += not _tag(tags[:, place], offsets, modifier)
                    kind = 1 + schema.entities.index(entity.type)
                    found.append(
                        TaggedExample(
                            note.id,
                            MODIFIERS,
                            ids,
                            offsets,
                            tuple(kind if is_marked else 0 for is_marked in marked),
                            tuple(schema.modifiers.index(label) for label in labels),
                            tags,
                            entity.id,
                        )
                    )
                    break  # the stretch that holds the entity's beginning
    return tuple(found), num_lost


@dataclass(frozen=True, slots=True)
class Span:
    """``type`` on the characters [start, end) of the note, and how sure the model is of it."""

    type: str
    start: int
    end: int
    confidence: float


def spans(example: TaggedExample, probabilities: np.ndarray, names: Sequence[str], text: str) -> list[Span]:
    """What ``probabilities`` (num_pieces, num_types, 3) say about ``example``; ``names``: the schema's types.

    A piece takes the likelier of O, B and I; an I without a B begins a span as well. Confidence is the
    product over the span's pieces of the share of what they take, and of the next piece's not going on: the
    probability of this span if pieces were independent. Outer white space is trimmed.
    """
    found = []
    best = probabilities.argmax(axis=2)
    real = [i for i, (start, end) in enumerate(example.offsets) if end > start]
    for place in example.asked:
        at = 0
        while at < len(real):
            if best[real[at], place] == OUTSIDE:
                at += 1
                continue
            last = at
            sure = float(1.0 - probabilities[real[at], place, OUTSIDE])
            while last + 1 < len(real) and best[real[last + 1], place] == INSIDE:
                last += 1
                sure *= float(probabilities[real[last], place, INSIDE])
            if last + 1 < len(real):
                sure *= float(1.0 - probabilities[real[last + 1], place, INSIDE])
            start, end = example.offsets[real[at]][0], example.offsets[real[last]][1]
            while start < end and text[start].isspace():
                start += 1
            while end > start and text[end - 1].isspace():
                end -= 1
            if start < end:
                found.append(Span(names[place], start, end, sure))
            at = last + 1
    return found


def _stretches(
    text: str, start: int, end: int, tokenizer: Any, max_tokens: int
) -> list[tuple[tuple[int, ...], tuple[tuple[int, int], ...]]]:
    """Pieces of ``text[start:end]`` with their characters in the note, at most ``max_tokens`` at a time."""
    coded = tokenizer(text[start:end], add_special_tokens=False, return_offsets_mapping=True)
    ids = list(coded["input_ids"])
    offsets = [(start + a, start + b) for a, b in coded["offset_mapping"]]
    room = max_tokens - 2
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    found = []
    for at in range(0, len(ids), room):
        cut, places = ids[at : at + room], offsets[at : at + room]
        found.append(((first, *cut, last), ((0, 0), *places, (0, 0))))
    return found


def _tag(column: np.ndarray, offsets: Sequence[tuple[int, int]], mention: Entity) -> bool:
    """Write B and I at the pieces of ``mention``; False where there is none, or it is not one stretch."""
    places = [i for i, piece in enumerate(offsets) if _touches(piece, mention)]
    if not places or len(mention.span) > 1:
        return False
    column[places[0]] = BEGIN
    column[places[1:]] = INSIDE
    return True


def _touches(piece: tuple[int, int], mention: Entity) -> bool:
    return any(piece[0] < end and start < piece[1] for start, end in mention.span)
