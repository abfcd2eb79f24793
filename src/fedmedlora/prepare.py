"""A study's files -> what its rounds work on: sites with token examples, cohorts with test notes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedmedlora.corpora.jsonl import NoteSet, annotates_json
from fedmedlora.corpora.load import load_notes
from fedmedlora.corpora.note import Annotates, Note, union
from fedmedlora.corpora.schema import Schema
from fedmedlora.corpora.sentences import sentences
from fedmedlora.in_process import LocalSite
from fedmedlora.model.tokens import Encoder, TokenExample
from fedmedlora.study import Study
from fedmedlora.tasks.training_set import (
    TrainingSet,
    sample_examples,
    sample_notes,
    sample_sentences,
    training_set,
)


@dataclass(frozen=True)
class Cohort:
    """Notes that are predicted on. ``kind``: "site", "external" or "new-site"."""

    name: str
    kind: str
    synthetic: bool
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Prepared:
    """``records``: one entry per cohort for ``results.json``. ``file_hashes``: see ``file_hashes``.

    ``trained_on``: what each site's training notes annotate, each combination once. ``validation_record``:
    what the validation set holds, for ``results.json``; None where the study names none.
    """

    schema: Schema
    sites: tuple[LocalSite, ...]
    cohorts: tuple[Cohort, ...]
    validation: tuple[TokenExample, ...]
    validation_notes: tuple[Note, ...]
    validation_record: dict[str, Any] | None
    trained_on: dict[str, tuple[Annotates, ...]]
    records: tuple[dict[str, Any], ...]
    file_hashes: dict[str, str]


def file_hashes(study: Study) -> dict[str, str]:
    """sha256 of every file (or of the files in every folder) of notes, by its place in the study file."""
    found = {}
    for place, path in study.files():
        root = study.resolve(path)
        digest = hashlib.sha256()
        # A .txt is read with the .ann beside it.
        files = sorted(root.rglob("*")) if root.is_dir() else [root, root.with_suffix(".ann")]
        for file in files:
            if file.is_file():
                digest.update(str(file.relative_to(root if root.is_dir() else root.parent)).encode())
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        found[place] = digest.hexdigest()
    return found


def prepare(study: Study, encoder: Encoder) -> Prepared:
    """Read the study's notes and turn them into examples.

    Raises ``ValueError`` for a site without training examples, for validation notes that are also
    training or test notes, for test notes that are also trained on, for patients of a site who are in its
    training and in its test notes, and for whatever the readers refuse.
    """
    schema = study.schema()
    train = {site.name: _read(study, site.train, schema) for site in study.sites}
    tests: list[tuple[str, str, NoteSet]] = [
        (site.name, "site", _read(study, site.test, schema)) for site in study.sites if site.test
    ]
    tests += [(c.name, c.kind, _read(study, c.test, schema)) for c in study.cohorts]
    validation = [_read(study, path, schema).notes for path in study.validation.notes]
    _refuse_overlap(validation, train, tests)

    sites, records = [], []
    for site in study.sites:
        notes = train[site.name]
        examples, record = _site_examples(study, encoder, schema, site.name, notes)
        if not examples:
            raise ValueError(
                f"site {site.name!r}: {site.train} gives no example to train on ({len(notes.notes)} notes); "
                "check what the file annotates and [tasks]"
            )
        sites.append(LocalSite(site.name, examples))
        records.append(record)
    by_name = {record["name"]: record for record in records}
    cohorts = []
    for name, kind, found in tests:
        kept = sample_notes(
            found.notes, max_sentences=study.evaluation.max_sentences, seed=study.seed, name=f"{name}/test"
        )
        if not kept:
            raise ValueError(f"cohort {name!r}: its test file holds no note")
        cohorts.append(Cohort(name, kind, bool(found.header.get("synthetic")), kept))
        record = by_name.get(name) or _cohort_record(name, kind, found)
        record["num_test_notes"] = len(kept)
        record["test_not_expressible"] = _rendered(study, schema, kept, as_asked=True).not_expressible
        record["num_test_sentences"] = sum(len(sentences(note.text)) for note in kept)
        if name not in by_name:
            records.append(record)
    examples, validation_notes, validation_record = _validation(study, encoder, schema, validation)
    weighing = [name for name in study.rule_names() if study.rule(name).needs_validation]
    if weighing and not examples:
        raise ValueError(
            f"[validation] notes: they give no validation example to measure a loss on, which {weighing[0]} "
            "needs; check what the files annotate and [tasks]"
        )
    return Prepared(
        schema=schema,
        sites=tuple(sites),
        cohorts=tuple(cohorts),
        validation=examples,
        validation_notes=validation_notes,
        validation_record=validation_record,
        trained_on={name: tuple({n.annotates: None for n in notes.notes}) for name, notes in train.items()},
        records=tuple(records),
        file_hashes=file_hashes(study),
    )


def _read(study: Study, path: str, schema: Schema) -> NoteSet:
    found = load_notes(study.resolve(path), schema)
    for note in found.notes:
        if not note.text and (note.entities or note.modifiers):
            raise ValueError(f"{path}: note {note.id!r} has annotations but no text; a study needs the text")
    return found


def _rendered(study: Study, schema: Schema, notes: Sequence[Note], *, as_asked: bool = False) -> TrainingSet:
    return training_set(
        notes,
        schema,
        tasks=study.tasks.names,
        prompt_set=study.tasks.prompts,
        scope=study.tasks.modifier_scope,
        form=study.tasks.form,
        as_asked=as_asked,
    )


def _site_examples(
    study: Study, encoder: Encoder, schema: Schema, name: str, notes: NoteSet
) -> tuple[tuple[TokenExample, ...], dict[str, Any]]:
    share = study.training.modifier_share
    rendered = _rendered(study, schema, notes.notes)
    chosen = sample_examples(
        rendered.examples,
        num=study.training.max_train_examples,
        modifier_share=None if isinstance(share, str) else share,
        seed=study.seed,
        name=name,
    )
    kept, num_too_long = fitting([encoder.encode(e) for e in chosen], study.tasks.max_tokens)
    record = _cohort_record(name, "site", notes)
    record |= {
        "num_train_notes": len(notes.notes),
        "num_train_examples": len(kept),
        "not_expressible": rendered.not_expressible,
        "too_long": num_too_long,
    }
    return kept, record


def _validation(
    study: Study, encoder: Encoder, schema: Schema, files: Sequence[Sequence[Note]]
) -> tuple[tuple[TokenExample, ...], tuple[Note, ...], dict[str, Any] | None]:
    """Examples for the loss, notes for F1, and their record.

    Every file gives the same number of sentences, so that the hospital with the most notes does not
    speak for all. The loss takes single sentences, because a few whole notes would be a poor sample; F1
    needs whole notes.
    """
    if not files:
        return (), (), None
    num = -(-study.validation.max_sentences // len(files))
    kept: list[TokenExample] = []
    kept_notes: list[Note] = []
    too_long = 0
    not_expressible: Counter[str] = Counter()
    for number, notes in enumerate(files):
        # Ids are unique in a file, not across the files of a validation set.
        own = [replace(note, id=f"{number}:{note.id}") for note in notes]
        name = f"validation/{number}"
        rendered = _rendered(study, schema, own)
        examples = [example for of_task in rendered.examples.values() for example in of_task]
        chosen = sample_sentences(examples, num=num, seed=study.seed, name=name)
        fits, num_too_long = fitting([encoder.encode(e) for e in chosen], study.tasks.max_tokens)
        kept += fits
        too_long += num_too_long
        not_expressible.update(rendered.not_expressible)
        kept_notes += sample_notes(own, max_sentences=num, seed=study.seed, name=name)
    record = {
        "num_notes": sum(len(notes) for notes in files),
        "num_loss_examples": len(kept),
        "num_f1_notes": len(kept_notes),
        "num_f1_sentences": sum(len(sentences(note.text)) for note in kept_notes),
        "not_expressible": dict(sorted(not_expressible.items())),
        "too_long": too_long,
    }
    return tuple(kept), tuple(kept_notes), record


def fitting(examples: Sequence[TokenExample], max_tokens: int) -> tuple[tuple[TokenExample, ...], int]:
    """Examples of at most ``max_tokens`` tokens, prompt included, and how many were longer."""
    kept = tuple(e for e in examples if len(e.prefix) + len(e) <= max_tokens)
    return kept, len(examples) - len(kept)


def _cohort_record(name: str, kind: str, notes: NoteSet) -> dict[str, Any]:
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


def _refuse_overlap(
    validation: Sequence[Sequence[Note]],
    train: dict[str, NoteSet],
    tests: Sequence[tuple[str, str, NoteSet]],
) -> None:
    """Test notes must not be trained on, and validation notes, which steer aggregation, be neither.

    Notes are the same if their texts are, white space aside. Patients (``Note.group``) are compared within
    one site only: what they are called elsewhere means nothing.
    """
    trained = _by_text((name, notes.notes) for name, notes in train.items())
    tested = _by_text((name, notes.notes) for name, _, notes in tests)
    seen: dict[str, str] = {}
    for note in (note for notes in validation for note in notes if note.text.strip()):
        text_hash = note.text_hash()
        if text_hash in seen:
            raise ValueError(
                f"[validation]: note {note.id!r} is there twice (also as {seen[text_hash]!r}), so it would "
                "count twice; take one out"
            )
        seen[text_hash] = note.id
        for what, found in (("training", trained), ("test", tested)):
            if text_hash in found:
                name, other = found[text_hash]
                raise ValueError(
                    f"[validation]: note {note.id!r} is also among the {what} notes of {name} (as "
                    f"{other!r}); validation notes must be of neither, take it out of one of them"
                )
    for text_hash, (cohort, note_id) in tested.items():
        if text_hash in trained:
            site, other = trained[text_hash]
            raise ValueError(
                f"test notes of {cohort}: note {note_id!r} is also among the training notes of {site} (as "
                f"{other!r}); take it out of one of them (`fedmedlora corpora split` keeps copies together)"
            )
    for name, _, notes in tests:
        groups = {note.group for note in notes.notes if note.group}
        for note in train[name].notes if name in train else ():
            if note.group in groups:
                raise ValueError(
                    f"site {name!r}: training note {note.id!r} and a test note have the same group (one "
                    "patient or document); split by group (`fedmedlora corpora split` does)"
                )


def _by_text(sets: Iterable[tuple[str, Sequence[Note]]]) -> dict[str, tuple[str, str]]:
    """Hash of a note's text -> (name of its set, id); notes without text are alike and no copies."""
    return {note.text_hash(): (name, note.id) for name, notes in sets for note in notes if note.text.strip()}
