"""Predictions of one adapter on one cohort, and their scores.

Modifiers and links are predicted twice: for the gold entities (relation extraction as Li et al. measure
it) and end to end, for the entities that were predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from fedmedlora.answering import answer
from fedmedlora.corpora.instructions import record_of
from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.schema import Schema
from fedmedlora.corpora.sentences import sentences
from fedmedlora.evaluation.answers import summarize_answers
from fedmedlora.evaluation.calibration import num_gold_entities, right_or_wrong
from fedmedlora.evaluation.counts import TypedCounts
from fedmedlora.evaluation.score import Agreement, score_notes
from fedmedlora.evaluation.summary import summarize
from fedmedlora.extraction.decode import decode_scored
from fedmedlora.extraction.generate import generate_texts
from fedmedlora.extraction.tagging import tag
from fedmedlora.model.load import BaseModel
from fedmedlora.model.memory import return_freed_memory
from fedmedlora.tasks.assemble import merge
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.few_shot import Shots, solved_examples, with_shots
from fedmedlora.tasks.form import Reading, load_form, read_by
from fedmedlora.tasks.instruction import is_instruction
from fedmedlora.tasks.markup import Mention, confidences, place
from fedmedlora.tasks.tagging import place as tagged_mentions
from fedmedlora.tasks.task import Answer, askers, finders, load_task

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Form:
    """What is asked, and how: the settings that a prompt depends on."""

    schema: Schema
    tasks: tuple[str, ...] = ("ner", "modifiers")
    prompt_set: str = "study"
    scope: str = "entity"
    output_form: str = "markup"
    decoding: str = "constrained"
    batch_size: int = 16
    max_answer_tokens: int = 256
    shots: Shots | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """Record id -> score from 0 to 1 by ``metric`` (one of ``corpora/instructions.SCORES``)."""

    metric: str
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class Predictions:
    """Notes as predicted end to end, and with modifiers for the gold entities (None: not asked).

    ``num_unparsed``: answers with a part that could not be read. ``num_ungrounded``: mentions that answers
    name and that their sentence does not hold. ``answers``: of instruction data, the only thing there is.
    ``confidence``: note id -> entity as found -> how sure the model is of it; None where that is not known.
    ``usage``: see ``Reads.spent``.
    """

    end_to_end: dict[str, Note] | None
    given_gold: dict[str, Note] | None
    num_examples: int
    num_unparsed: int
    num_ungrounded: int = 0
    answers: Answers | None = None
    confidence: dict[str, dict[Mention, float]] | None = None
    usage: dict[str, Any] | None = None


class Reads(Protocol):
    """Finds what is said in sentences. The counts are of what was really read."""

    @property
    def num_examples(self) -> int:
        """Examples that were read; one that was read before counts once."""

    @property
    def num_unparsed(self) -> int:
        """Answers with a part that could not be read."""

    @property
    def num_ungrounded(self) -> int:
        """Mentions that answers name and that their sentence does not hold."""

    def read(self, examples: Sequence[Example]) -> list[Reading]:
        """What the answer to each example says."""

    def spent(self) -> dict[str, Any] | None:
        """The ``usage`` of ``results.json``: what was asked of somebody else's model; None: nothing."""


@dataclass(frozen=True, slots=True)
class OtherReader:
    """Who reads instead of the model. ``output_form``: what its answers are written in.

    ``key``: equal for what reads equally, whichever run it reads in.
    """

    make: Callable[[Report], Reads]
    output_form: str
    key: str


class Reader:
    """Reads examples with one adapter; an example that was read before is not read again.

    A predicted entity that is right gives the same modifier prompt as the gold one.
    """

    def __init__(self, base: BaseModel, model: Any, form: Form, report: Report) -> None:
        """``model``: PEFT's model over ``base``, with the adapter in it."""
        self._base, self._model, self._form, self._report = base, model, form, report
        self._known: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Reading] = {}
        # What was really read: a known answer counts once.
        self.num_examples = self.num_unparsed = self.num_ungrounded = 0

    def read(self, examples: Sequence[Example]) -> list[Reading]:
        """What the answer to each example says."""
        how = load_form(self._form.output_form)
        constrained = self._form.decoding == "constrained"
        how_read = read_by(self._form.output_form)
        first_of = {e.place: e for e in examples if e.place not in self._known}
        fresh = list(first_of.values())
        if how_read == "tagging":
            tagged = tag(
                self._model,
                self._base.encoder,
                fresh,
                batch_size=self._form.batch_size,
                progress=self._on_progress,
            )
            found = [
                Reading(tagged_mentions(e.pieces, words), True, 0, shares)
                for e, (words, shares) in zip(fresh, tagged, strict=True)
            ]
        elif constrained and how_read == "copying":
            outputs = decode_scored(
                self._model,
                self._base.encoder,
                fresh,
                batch_size=self._form.batch_size,
                progress=self._on_progress,
            )
            found = [
                Reading(place(e.pieces, o)[0], True, 0, confidences(e.pieces, o, shares))
                for e, (o, shares) in zip(fresh, outputs, strict=True)
            ]
        else:
            texts = generate_texts(
                self._model,
                self._base.encoder,
                fresh,
                batch_size=self._form.batch_size,
                share_prefix=True,
                under_grammar=constrained,
                progress=self._on_progress,
            )
            found = [how.read(e, t) for e, t in zip(fresh, texts, strict=True)]
        # Offsets are the note's own; the same sentence elsewhere has others, so the key holds them.
        self._known |= dict(zip(first_of, found, strict=True))
        self.num_examples += len(found)
        self.num_unparsed += sum(not one.complete for one in found)
        self.num_ungrounded += sum(one.num_ungrounded for one in found)
        return [self._known[e.place] for e in examples]

    def spent(self) -> None:
        """See ``Reads``: the model is our own."""
        return None

    def _on_progress(self, done: int, total: int) -> None:
        self._report(self.num_examples + done, self.num_examples + total)


def predict(
    base: BaseModel,
    model: Any,
    notes: Sequence[Note],
    form: Form,
    report: Report,
    other: OtherReader | None = None,
) -> Predictions:
    """What the adapter in ``model`` finds in ``notes``; gold is used as given entities only.

    ``other``: reads instead of the model (not instruction data). Prompts ask for what each note
    ``annotates``. ``report(num_done, num_total)`` counts examples; the total grows once entities are known.
    """
    if is_instruction(form.tasks):
        settings = {"batch_size": form.batch_size, "max_answer_tokens": form.max_answer_tokens}
        right, num_unread = answer(base, model, notes, **settings, report=report)
        metric = record_of(notes[0]).score if notes else ""
        return Predictions(None, None, len(right), num_unread, answers=Answers(metric, right))
    if other is not None:
        form = replace(form, output_form=other.output_form)
    reader: Reads = Reader(base, model, form, report) if other is None else other.make(report)
    return predict_with(reader, notes, form)


def predict_with(reader: Reads, notes: Sequence[Note], form: Form) -> Predictions:
    """What ``reader`` finds in ``notes``: ``predict`` for whoever reads, of anything but instruction data."""
    find, ask = finders(form.tasks), askers(form.tasks)
    sure: dict[str, dict[Mention, float]] = {}
    end_to_end = given_gold = None
    if find:
        blank = {n.id: replace(n, entities=(), modifiers=(), links=()) for n in notes}
        end_to_end = _ask(reader, find, blank, form, sure)
    if ask:
        gold = {n.id: replace(n, modifiers=(), links=()) for n in notes}
        # They are given, so a sentence that one of them spans may be joined with the next.
        given_gold = _ask(reader, ask, gold, form, keep_entities=True)
        if end_to_end is not None:
            end_to_end = _ask(reader, ask, end_to_end, form)
    return_freed_memory()
    return Predictions(
        end_to_end,
        given_gold,
        reader.num_examples,
        reader.num_unparsed,
        reader.num_ungrounded,
        confidence=sure or None,
        usage=reader.spent(),
    )


def scores(
    notes: Sequence[Note], predictions: Predictions, form: Form, *, num_resamples: int, seed: int
) -> dict[str, Any]:
    """The ``scores`` of ``results.json``: five kinds of item, strict and lenient, with intervals."""

    def summary(per_note: Sequence[Agreement]) -> dict[str, Any]:
        rng = np.random.default_rng(seed) if num_resamples else None
        return summarize(per_note, rng=rng, num_resamples=num_resamples)

    found = agreements(notes, predictions, form)
    return {kind: None if per_note is None else summary(per_note) for kind, per_note in found.items()}


def agreements(
    notes: Sequence[Note], predictions: Predictions, form: Form
) -> dict[str, list[Agreement] | None]:
    """Counts of each note, in the order of note ids, by kind of item; None where it was not asked for."""
    found: dict[str, list[Agreement] | None] = dict.fromkeys(
        ("entities", "modifiers_gold", "links_gold", "modifiers_end_to_end", "links_end_to_end")
    )
    linked = form.scope == "entity"
    if predictions.end_to_end is not None:
        per_note = score_notes(notes, predictions.end_to_end)
        found["entities"] = [s.entities for s in per_note]
        if askers(form.tasks):
            found["modifiers_end_to_end"] = [s.modifiers for s in per_note]
            found["links_end_to_end"] = [s.links for s in per_note] if linked else None
    if predictions.given_gold is not None:
        per_note = score_notes(notes, predictions.given_gold)
        found["modifiers_gold"] = [s.modifiers for s in per_note]
        found["links_gold"] = [s.links for s in per_note] if linked else None
    return found


def details(notes: Sequence[Note], predictions: Predictions, form: Form) -> dict[str, Any]:
    """What intervals over several runs need: ``{"per_note": {kind: {criterion: [[tp, fp, fn], ...]}}}``, and
    (``"calibration"``) how sure the model was of each entity that it found, and whether it was right.

    Notes are in the order of their ids, which are not told. Of instruction data, the records' scores in
    the order of theirs: ``{"answers": [...]}``.
    """
    if predictions.answers is not None:
        return {"answers": [score for _, score in sorted(predictions.answers.scores.items())]}

    def triples(per_note: Sequence[TypedCounts]) -> list[list[int]]:
        return [[c.tp, c.fp, c.fn] for c in (typed.micro() for typed in per_note)]

    found: dict[str, Any] = {
        "per_note": {
            kind: {
                "strict": triples([one.strict for one in per_note]),
                "lenient": triples([one.lenient for one in per_note]),
            }
            for kind, per_note in agreements(notes, predictions, form).items()
            if per_note is not None
        }
    }
    if predictions.confidence is not None and predictions.end_to_end is not None:
        found["calibration"] = _calibration(notes, predictions.end_to_end, predictions.confidence)
    return found


def _calibration(
    notes: Sequence[Note], predicted: dict[str, Note], sure: dict[str, dict[Mention, float]]
) -> dict[str, Any]:
    """How sure, and whether right (strict), of every predicted entity that is scored; gold ones counted."""
    confidence: list[float] = []
    right: list[bool] = []
    for note in sorted(notes, key=lambda note: note.id):
        found = predicted[note.id]
        by_id = {entity.id: entity for entity in found.entities}
        for entity_id, is_right in right_or_wrong(note, found).items():
            entity = by_id[entity_id]
            confidence.append(sure.get(note.id, {}).get(Mention(entity.type, entity.start, entity.end), 0.0))
            right.append(is_right)
    return {
        "confidence": confidence,
        "right": right,
        "num_gold": sum(num_gold_entities(note) for note in notes),
    }


def answer_scores(predictions: Predictions, *, num_resamples: int, seed: int) -> dict[str, Any] | None:
    """The ``answers`` of ``results.json``; None where nothing was answered."""
    found = predictions.answers
    if found is None:
        return None
    rng = np.random.default_rng(seed) if num_resamples else None
    return summarize_answers(found.metric, list(found.scores.values()), rng=rng, num_resamples=num_resamples)


def _ask(
    reader: Reads,
    tasks: Sequence[str],
    notes: dict[str, Note],
    form: Form,
    sure: dict[str, dict[Mention, float]] | None = None,
    *,
    keep_entities: bool = False,
) -> dict[str, Note]:
    """``notes`` with what each of ``tasks`` finds in them, by note id.

    ``sure``: filled with how sure the model is of what it found, where it tells.
    ``keep_entities``: no sentence ends inside one of the notes' entities.
    """
    parts: dict[str, list[Note]] = {note_id: [] for note_id in notes}
    for name in tasks:
        task = load_task(name)
        examples: list[Example] = []
        solved: dict[Annotates, tuple[Example, ...]] = {}
        for note in notes.values():
            keep = [(e.start, e.end) for e in note.entities] if keep_entities else []
            asked = task.examples(
                note,
                sentences(note.text, keep=keep),
                form.schema,
                prompt_set=form.prompt_set,
                scope=form.scope,
                form=form.output_form,
                with_gold=False,
            ).examples
            if note.annotates not in solved:
                solved[note.annotates] = _solved(name, note.annotates, form)
            examples += [with_shots(example, solved[note.annotates]) for example in asked]
        answers: dict[str, list[Answer]] = {note_id: [] for note_id in notes}
        for example, reading in zip(examples, reader.read(examples), strict=True):
            answers[example.note_id].append((example, reading.mentions))
            if sure is not None and reading.confidences is not None:
                told = zip(reading.mentions, reading.confidences, strict=True)
                sure.setdefault(example.note_id, {}).update(told)
        for note in notes.values():
            parts[note.id].append(task.annotate(note, answers[note.id]))
    return {note_id: merge(of_note) for note_id, of_note in parts.items()}


def _solved(task: str, annotates: Annotates, form: Form) -> tuple[Example, ...]:
    """Solved examples to show to questions of ``task`` about notes that annotate ``annotates``."""
    if form.shots is None or not load_task(task).labels(form.schema, annotates):
        return ()
    return solved_examples(
        form.shots,
        task,
        annotates,
        form.schema,
        prompt_set=form.prompt_set,
        scope=form.scope,
        form=form.output_form,
    )
