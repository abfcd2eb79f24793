"""A cohort: test notes of one hospital, what is said about them, and what an adapter scores on them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedmedlora.corpora.jsonl import NoteSet, annotates_json
from fedmedlora.corpora.note import Note, union
from fedmedlora.corpora.schema import Schema
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.measure import Form, OtherReader, Predictions, answer_scores, details, predict, scores
from fedmedlora.model.load import BaseModel
from fedmedlora.model.weights import write_weights
from fedmedlora.progress import Progress
from fedmedlora.tasks.instruction import is_instruction
from fedmedlora.tasks.training_set import TrainingSet, num_sentences, sample_notes, training_set
from fedmedlora.terms import Terms
from fedmedlora.work_plan import reading_cost


@dataclass(frozen=True)
class Cohort:
    """Notes that are predicted on. ``kind``: "site", "external" or "new-site"."""

    name: str
    kind: str
    synthetic: bool
    notes: tuple[Note, ...]

    def notes_hash(self) -> str:
        """See ``notes_hash``."""
        return notes_hash(self.notes)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An adapter on a cohort. ``record``: one of the ``evaluations`` of ``results.json``.

    ``predictions``, ``details`` (counts of each note: see ``measure.details``): None where they stay at a
    site.
    """

    record: dict[str, Any]
    predictions: Predictions | None = None
    details: dict[str, Any] | None = None


def notes_hash(notes: Sequence[Note]) -> str:
    """sha256 of everything that ``notes`` hold, annotations too (a note's own ``repr`` has sizes alone)."""
    digest = hashlib.sha256()
    for note in notes:
        asked = [sorted(note.annotates.entities), sorted(note.annotates.pairs), sorted(note.meta.items())]
        held = [note.id, note.text, note.entities, note.modifiers, note.links, asked]
        digest.update(repr(held).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def prepare_cohort(terms: Terms, name: str, kind: str, found: NoteSet) -> Cohort:
    """Test notes, as many as the study reads. Raises ``ValueError`` for a file without notes."""
    kept = sample_notes(
        found.notes,
        max_sentences=terms.evaluation.max_sentences,
        seed=terms.draw_seed(),
        name=f"{name}/test",
        passage_sentences=terms.evaluation.passage_sentences,
    )
    if not kept:
        raise ValueError(f"cohort {name!r}: its test file holds no note")
    return Cohort(name, kind, bool(found.header.get("synthetic")), kept)


def evaluate_cohort(
    base: BaseModel,
    model: Any,
    adapter: Adapter,
    cohort: Cohort,
    form: Form,
    *,
    num_resamples: int,
    seed: int,
    label: str,
    progress: Progress,
    other: OtherReader | None = None,
) -> Evaluation:
    """``adapter`` on ``cohort``.

    ``label``: whose adapter it is, for the progress shown. ``other``: see ``measure.predict``.
    """
    how = ", free" if form.decoding == "free" and not is_instruction(form.tasks) else ""
    began = time.perf_counter()
    write_weights(base, model, adapter)
    with progress.stage(f"{label}: reads {cohort.name}{how}", reading_cost(cohort.notes, form)) as advance:
        predictions = predict(base, model, cohort.notes, form, advance, other)
    seconds = time.perf_counter() - began
    return evaluation_of(
        cohort, predictions, form, form.decoding, seconds, num_resamples=num_resamples, seed=seed
    )


def evaluation_of(
    cohort: Cohort,
    predictions: Predictions,
    form: Form,
    decoding: str,
    seconds: float,
    *,
    num_resamples: int,
    seed: int,
) -> Evaluation:
    """What ``predictions`` are worth. ``seconds``: how long they took."""
    record = {
        "cohort": cohort.name,
        "decoding": decoding,
        "num_examples": predictions.num_examples,
        "num_unparsed": predictions.num_unparsed,
        "num_ungrounded": predictions.num_ungrounded,
        "seconds": seconds,
        "scores": scores(cohort.notes, predictions, form, num_resamples=num_resamples, seed=seed),
        "answers": answer_scores(predictions, num_resamples=num_resamples, seed=seed),
    }
    if predictions.usage is not None:
        record["usage"] = predictions.usage
    return Evaluation(record, predictions, details(cohort.notes, predictions, form))


def reading_form(terms: Terms, schema: Schema, decoding: str) -> Form:
    """How adapters are read under ``terms``."""
    return Form(
        schema=schema,
        tasks=terms.tasks.names,
        prompt_set=terms.tasks.prompts,
        scope=terms.tasks.modifier_scope,
        output_form=terms.tasks.form,
        decoding=decoding,
        batch_size=terms.evaluation.batch_size,
        max_answer_tokens=terms.evaluation.max_answer_tokens,
    )


def render(terms: Terms, schema: Schema, notes: Sequence[Note], *, as_asked: bool = False) -> TrainingSet:
    """``notes`` as examples of the study's tasks."""
    return training_set(
        notes,
        schema,
        tasks=terms.tasks.names,
        prompt_set=terms.tasks.prompts,
        scope=terms.tasks.modifier_scope,
        form=terms.tasks.form,
        as_asked=as_asked,
    )


def cohort_record(name: str, kind: str, notes: NoteSet) -> dict[str, Any]:
    """A cohort's entry in ``results.json``, with nothing counted yet."""
    return {
        "name": name,
        "kind": kind,
        "synthetic": bool(notes.header.get("synthetic")),
        "num_train_notes": 0,
        "num_train_examples": 0,
        "num_test_notes": 0,
        "num_test_sentences": 0,
        "annotates": annotates_json(union(note.annotates for note in notes.notes)),
        "not_expressible": {},
        "test_not_expressible": {},
        "too_long": 0,
    }


def testing_record(terms: Terms, schema: Schema, cohort: Cohort) -> dict[str, Any]:
    """The part of a cohort's entry that speaks of its test notes."""
    return {
        "num_test_notes": len(cohort.notes),
        "test_not_expressible": render(terms, schema, cohort.notes, as_asked=True).not_expressible,
        "num_test_sentences": sum(num_sentences(note) for note in cohort.notes),
    }
