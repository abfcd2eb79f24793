"""One site on this machine: its notes under the study's terms.

Simulated or real, a site is prepared here and nowhere else, so both do the same work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedmedlora.cohort import Cohort, cohort_record, prepare_cohort, render, testing_record
from fedmedlora.corpora.jsonl import NoteSet
from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.schema import Schema
from fedmedlora.corpora.split import blocks_of
from fedmedlora.model.load import BaseModel
from fedmedlora.model.lora import attach_lora
from fedmedlora.model.tokens import Encoder, TokenExample
from fedmedlora.study_tables import Model
from fedmedlora.tasks.training_set import sample_examples, sample_notes, sample_sentences
from fedmedlora.terms import Terms
from fedmedlora.training.data_parallel import LoraShape, Workers, num_devices
from fedmedlora.training.site import LocalTraining

_PLAIN = Model()


@dataclass(frozen=True)
class LocalSite:
    """What a site trains on, what it scores the others' adapters on, and its test notes.

    ``annotates``: what its training notes annotate, each combination once. ``record``: its entry under
    ``cohorts`` in ``results.json``. ``train_notes``: the notes behind the examples, for other kinds of model.
    """

    name: str
    examples: tuple[TokenExample, ...]
    held_out: tuple[TokenExample, ...] = ()
    cohort: Cohort | None = None
    annotates: tuple[Annotates, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    train_notes: tuple[Note, ...] = ()

    def num_target_tokens(self, loss: str) -> int:
        """Target tokens of the site's examples that ``loss`` supervises: its data size, n_k."""
        if loss == "decision":
            return sum(1 for example in self.examples for choices in example.choices if choices)
        return sum(len(example.target) for example in self.examples)


def with_lora(base: BaseModel, terms: Terms) -> Any:
    """``base`` with the untrained adapter that ``terms`` ask for, the same wherever it is made."""
    shape = lora_shape(terms)
    return attach_lora(
        base.model,
        rank=shape.rank,
        alpha=shape.alpha,
        dropout=shape.dropout,
        targets=shape.targets,
        seed=shape.seed,
    )


def lora_shape(terms: Terms) -> LoraShape:
    """The adapter that ``terms`` ask for."""
    a = terms.adapter
    return LoraShape(a.rank, a.alpha, a.dropout, a.targets, terms.seed)


def workers_of(base: BaseModel, terms: Terms, here: Model) -> Workers | None:
    """The processes that train on this machine; None: this one alone. Raises ``ValueError``."""
    num = num_devices(here.devices, base.device.type)
    return Workers(base, lora_shape(terms), num) if num > 1 else None


def local_training(terms: Terms, *, num_parts: int = 1, here: Model = _PLAIN) -> LocalTraining:
    """The [training] of ``terms`` as one site's settings.

    ``num_parts``: sites whose notes are in one place, for everybody's work together: else a method that
    sees as many notes would be compared after a fraction of the steps. ``here``: this machine's part.
    """
    t = terms.training
    return LocalTraining(
        num_rounds=t.rounds,
        examples_per_step=t.examples_per_step,
        micro_batch=t.micro_batch,
        steps=t.steps_per_round * num_parts,
        passes=t.passes_per_round,
        learning_rate=t.learning_rate,
        warmup_steps=t.warmup_steps,
        schedule=t.schedule,
        weight_decay=t.weight_decay,
        max_grad_norm=t.max_grad_norm,
        loss=terms.loss(),
        decision_weight=t.decision_weight,
        batching=t.batching,
        gradient_checkpointing=t.gradient_checkpointing,
        optimizer=here.optimizer,
    )


def prepare_site(
    terms: Terms,
    encoder: Encoder,
    schema: Schema,
    name: str,
    train: NoteSet,
    test: NoteSet | None,
    *,
    source: str,
) -> LocalSite:
    """The site ``name`` out of its training and test notes. ``source``: their file, for messages.

    Raises ``ValueError`` where nothing is left to train on, and for a test file without notes.
    """
    held_out_notes, train_notes = hold_out(train.notes, terms, name)
    rendered = render(terms, schema, train_notes)
    share = terms.training.modifier_share
    chosen = sample_examples(
        rendered.examples,
        num=terms.training.max_train_examples,
        modifier_share=None if isinstance(share, str) else share,
        seed=terms.seed,
        name=name,
    )
    examples, num_too_long = fitting([encoder.encode(e) for e in chosen], terms.tasks.max_tokens)
    if not examples:
        raise ValueError(
            f"site {name!r}: {source} gives no example to train on ({len(train_notes)} notes); "
            "check what they annotate, [tasks], and [validation] held_out_sentences if it is set"
        )
    record = cohort_record(name, "site", train) | {
        "num_train_notes": len(train_notes),
        "num_train_examples": len(examples),
        "not_expressible": rendered.not_expressible,
        "too_long": num_too_long,
    }
    held_out: tuple[TokenExample, ...] = ()
    if held_out_notes:
        held_out, _, _ = loss_examples(
            terms, encoder, schema, held_out_notes, num=terms.held_out_sentences, name=f"{name}/held-out"
        )
    cohort = None
    if test is not None:
        cohort = prepare_cohort(terms, name, "site", test)
        record |= testing_record(terms, schema, cohort)
    annotates = tuple(dict.fromkeys(note.annotates for note in train_notes))
    return LocalSite(name, examples, held_out, cohort, annotates, record, train_notes)


def hold_out(notes: Sequence[Note], terms: Terms, name: str) -> tuple[tuple[Note, ...], tuple[Note, ...]]:
    """(notes kept to score the others' adapters on, notes to train on).

    Whole notes with everything else of the same patient or document, and every copy of their text.
    """
    if not terms.held_out_sentences:
        return (), tuple(notes)
    drawn = sample_notes(
        notes, max_sentences=terms.held_out_sentences, seed=terms.draw_seed(), name=f"{name}/held-out"
    )
    ids = {note.id for note in drawn}
    blocks, _ = blocks_of(notes)
    held_out = {note.id for block in blocks if ids & {n.id for n in block} for note in block}
    return (
        tuple(note for note in notes if note.id in held_out),
        tuple(note for note in notes if note.id not in held_out),
    )


def loss_examples(
    terms: Terms, encoder: Encoder, schema: Schema, notes: Sequence[Note], *, num: int, name: str
) -> tuple[tuple[TokenExample, ...], int, dict[str, int]]:
    """(examples of ``num`` sentences to measure a loss on, how many were too long, what none can say).

    Single sentences, because a few whole notes would be a poor sample.
    """
    rendered = render(terms, schema, notes)
    examples = [example for of_task in rendered.examples.values() for example in of_task]
    chosen = sample_sentences(examples, num=num, seed=terms.draw_seed(), name=name)
    fits, num_too_long = fitting([encoder.encode(e) for e in chosen], terms.tasks.max_tokens)
    return fits, num_too_long, rendered.not_expressible


def fitting(examples: Sequence[TokenExample], max_tokens: int) -> tuple[tuple[TokenExample, ...], int]:
    """Examples of at most ``max_tokens`` tokens, prompt included, and how many were longer."""
    kept = tuple(e for e in examples if len(e.prefix) + len(e) <= max_tokens)
    return kept, len(examples) - len(kept)
