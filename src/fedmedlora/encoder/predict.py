"""What the token classifier finds in a note: entities, and modifiers of given entities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from fedmedlora.corpora.note import Entity, Link, Note
from fedmedlora.corpora.schema import Schema
from fedmedlora.encoder.classifier import Classifier
from fedmedlora.encoder.examples import MODIFIERS, NER, Span, TaggedExample, spans, tagged_examples
from fedmedlora.encoder.train import by_task, padded

Report = Callable[[int, int], None]


def find_entities(
    classifier: Classifier, notes: Sequence[Note], schema: Schema, *, batch_size: int, report: Report
) -> tuple[dict[str, Note], dict[str, dict[Span, float]], int]:
    """(note id -> the note with the entities found, and nothing else; how sure; sentences read)."""
    blank = [replace(note, entities=(), modifiers=(), links=()) for note in notes]
    read, num = _read(classifier, blank, schema, NER, batch_size, report)
    found, sure = {}, {}
    for note in blank:
        best: dict[tuple[str, int, int], Span] = {}
        for _, span in read[note.id]:
            best.setdefault((span.type, span.start, span.end), span)
        ordered = sorted(best.values(), key=lambda s: (s.start, -s.end, s.type))
        entities = tuple(Entity(f"E{i}", s.type, ((s.start, s.end),)) for i, s in enumerate(ordered, 1))
        found[note.id] = replace(note, entities=entities)
        sure[note.id] = {span: span.confidence for span in ordered}
    return found, sure, num


def find_modifiers(
    classifier: Classifier, notes: Sequence[Note], schema: Schema, *, batch_size: int, report: Report
) -> tuple[dict[str, Note], int]:
    """(note id -> the note with its entities and the modifiers found for them; examples read)."""
    bare = [replace(note, modifiers=(), links=()) for note in notes]
    read, num = _read(classifier, bare, schema, MODIFIERS, batch_size, report)
    found = {}
    for note in bare:
        keys = sorted({(s.start, -s.end, s.type) for _, s in read[note.id]})
        ids = {key: f"M{i}" for i, key in enumerate(keys, 1)}
        links = {(entity_id, ids[s.start, -s.end, s.type]) for entity_id, s in read[note.id]}
        found[note.id] = replace(
            note,
            modifiers=tuple(Entity(ids[k], k[2], ((k[0], -k[1]),)) for k in keys),
            links=tuple(Link(entity, modifier) for entity, modifier in sorted(links)),
        )
    return found, num


@torch.inference_mode()
def _read(
    classifier: Classifier,
    notes: Sequence[Note],
    schema: Schema,
    task: str,
    batch_size: int,
    report: Report,
) -> tuple[dict[str, list[tuple[str, Span]]], int]:
    """(note id -> (entity asked about, what was found), number of examples)."""
    classifier.model.eval()
    text = {note.id: note.text for note in notes}
    names = schema.entities if task == NER else schema.modifiers
    examples: list[TaggedExample] = []
    for note in notes:
        settings = {"tasks": (task,), "max_tokens": classifier.max_tokens, "with_gold": False}
        examples += tagged_examples(note, schema, classifier.tokenizer, **settings)[0]  # type: ignore[arg-type]
    found: dict[str, list[tuple[str, Span]]] = {note.id: [] for note in notes}
    ordered = sorted(examples, key=lambda e: len(e.ids))  # little padding
    done = 0
    for at in range(0, len(ordered), batch_size):
        for _, group in by_task(ordered[at : at + batch_size]).items():
            logits = classifier.model(task, *padded(group, classifier))
            shares = torch.softmax(logits.float(), dim=-1).cpu().numpy().astype(np.float64)
            for row, example in enumerate(group):
                for span in spans(example, shares[row, : len(example.ids)], names, text[example.note_id]):
                    found[example.note_id].append((example.entity_id, span))
            done += len(group)
            report(done, len(ordered))
    return found, len(examples)
