"""A study's files -> what its rounds work on: sites with token examples, cohorts with test notes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fedmedlora.basis import prompts_here
from fedmedlora.cohort import Cohort, cohort_record, prepare_cohort, testing_record
from fedmedlora.corpora.instructions import read_instructions
from fedmedlora.corpora.jsonl import NoteSet
from fedmedlora.corpora.load import load_notes
from fedmedlora.corpora.note import Note
from fedmedlora.corpora.schema import Schema
from fedmedlora.corpora.schema_record import schema_record
from fedmedlora.local_site import LocalSite, loss_examples, prepare_site
from fedmedlora.model.load import BaseModel
from fedmedlora.model.tokens import Encoder, TokenExample
from fedmedlora.simulate import dealt, shaped
from fedmedlora.study import Study
from fedmedlora.tasks.instruction import is_instruction
from fedmedlora.tasks.training_set import num_sentences, sample_notes
from fedmedlora.terms import Terms


@dataclass(frozen=True)
class Prepared:
    """What the coordinator itself holds: external cohorts, validation notes; and the sites, if here.

    ``records``: one entry per external cohort for ``results.json``. ``file_hashes``: see ``file_hashes``.
    ``validation_record``: what the validation set holds, for ``results.json``; None where the study names
    none. ``sites``: empty where they are elsewhere. ``new_sites``: what hospitals that join late may train
    on. ``shot_notes``: where solved examples for prompts come from.
    """

    schema: Schema
    sites: tuple[LocalSite, ...]
    cohorts: tuple[Cohort, ...]
    validation: tuple[TokenExample, ...]
    validation_notes: tuple[Note, ...]
    validation_record: dict[str, Any] | None
    records: tuple[dict[str, Any], ...]
    file_hashes: dict[str, str]
    new_sites: Mapping[str, NoteSet] = field(default_factory=dict)
    shot_notes: tuple[Note, ...] = ()


def terms_of(study: Study, base: BaseModel) -> Terms:
    """What ``study`` asks of every site that holds ``base``."""
    encoder, schema = base.encoder, study.schema()
    return Terms(
        seed=study.seed,
        sample_seed=study.draw_seed(),
        base_model=base.hash,
        tokenizer=encoder.tokenizer_hash(),
        frame=tuple(encoder.frame),
        prompts=prompts_here(study.tasks),
        held_out_sentences=study.validation.held_out_sentences if study.validates_by_sites() else 0,
        adapter=study.adapter,
        # The schema itself travels, not where it lies.
        tasks=replace(study.tasks, schema=schema.name),
        schema_record=schema_record(schema),
        training=study.training,
        evaluation=study.evaluation,
    )


def file_hashes(study: Study) -> dict[str, str]:
    """``hash_notes`` of every file of notes, by its place in the study file."""
    return {place: hash_notes(study.resolve(path)) for place, path in study.files()}


def hash_notes(path: Path) -> str:
    """sha256 of a file of notes, or of all files in a folder; of a .txt together with its .ann."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path, path.with_suffix(".ann")]:
        if file.is_file():
            digest.update(str(file.relative_to(path if path.is_dir() else path.parent)).encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def prepare(study: Study, terms: Terms, encoder: Encoder) -> Prepared:
    """Read the study's notes and turn them into examples; those of the sites only where they are here.

    Raises ``ValueError`` for a site without training examples, for validation notes that are also
    training or test notes, for test notes that are also trained on, for patients of a site who are in its
    training and in its test notes, and for whatever the readers refuse.
    """
    here = study.sites_are_here
    schema, tasks = terms.schema(), terms.tasks.names
    train = {site.name: read_notes(study.resolve(site.train), schema, tasks) for site in study.sites if here}
    site_tests = {
        site.name: read_notes(study.resolve(site.test), schema, tasks)
        for site in study.sites
        if here and site.test
    }
    external = {c.name: read_notes(study.resolve(c.test), schema, tasks) for c in study.cohorts}
    validation = [read_notes(study.resolve(path), schema, tasks).notes for path in study.validation.notes]
    new_sites = {c.name: read_notes(study.resolve(c.train), schema, tasks) for c in study.cohorts if c.train}
    # What joins late is trained on too, and under its own name its test notes are looked at for patients.
    refuse_overlap(validation, {**train, **new_sites}, {**site_tests, **external})
    train = {s.name: shaped(s, train[s.name], schema, study.seed) for s in study.sites if here}

    cohorts: list[Cohort] = []
    records: list[dict[str, Any]] = []
    if study.federation.num_sites:
        sites = tuple(
            prepare_site(terms, encoder, schema, name, found, None, source="what it was dealt")
            for name, found in dealt(study, train).items()
        )
        for name, found in site_tests.items():  # nobody's own any more: read by the coordinator
            cohorts.append(prepare_cohort(terms, name, "site", found))
            records.append(cohort_record(name, "site", found) | testing_record(terms, schema, cohorts[-1]))
    else:
        sites = tuple(
            prepare_site(
                terms, encoder, schema, s.name, train[s.name], site_tests.get(s.name), source=s.train
            )
            for s in (study.sites if here else ())
        )
    for cohort in study.cohorts:
        cohorts.append(prepare_cohort(terms, cohort.name, cohort.kind, external[cohort.name]))
        record = cohort_record(cohort.name, cohort.kind, external[cohort.name])
        records.append(record | testing_record(terms, schema, cohorts[-1]))
    examples, validation_notes, validation_record = _validation(study, terms, encoder, schema, validation)
    weighing = [name for name in study.rule_names() if study.rule(name).needs.validation]
    if weighing and not examples and study.validation.by == "coordinator":
        raise ValueError(
            f"[validation] notes: they give no validation example to measure a loss on, which {weighing[0]} "
            "needs; check what the files annotate and [tasks]"
        )
    return Prepared(
        schema=schema,
        sites=sites,
        cohorts=tuple(cohorts),
        validation=examples,
        validation_notes=validation_notes,
        validation_record=validation_record,
        records=tuple(records),
        file_hashes=file_hashes(study),
        new_sites=new_sites,
        shot_notes=tuple(
            replace(note, id=f"{number}:{note.id}")
            for number, notes in enumerate(validation)
            for note in notes
        ),
    )


def read_notes(path: Path, schema: Schema, tasks: Sequence[str]) -> NoteSet:
    """The notes in ``path``, or the records of instruction data if ``tasks`` are that.

    Raises ``ValueError`` for annotations without text, naming the file.
    """
    if is_instruction(tasks):
        return read_instructions(path)
    found = load_notes(path, schema)
    for note in found.notes:
        if not note.text and (note.entities or note.modifiers):
            raise ValueError(f"{path}: note {note.id!r} has annotations but no text; a study needs the text")
    return found


def _validation(
    study: Study, terms: Terms, encoder: Encoder, schema: Schema, files: Sequence[Sequence[Note]]
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
        fits, num_too_long, lost = loss_examples(terms, encoder, schema, own, num=num, name=name)
        kept += fits
        too_long += num_too_long
        not_expressible.update(lost)
        kept_notes += sample_notes(own, max_sentences=num, seed=terms.draw_seed(), name=name)
    record = {
        "num_notes": sum(len(notes) for notes in files),
        "num_loss_examples": len(kept),
        "num_f1_notes": len(kept_notes),
        "num_f1_sentences": sum(num_sentences(note) for note in kept_notes),
        "not_expressible": dict(sorted(not_expressible.items())),
        "too_long": too_long,
    }
    return tuple(kept), tuple(kept_notes), record


def refuse_overlap(
    validation: Sequence[Sequence[Note]], train: Mapping[str, NoteSet], tests: Mapping[str, NoteSet]
) -> None:
    """Test notes must not be trained on, and validation notes, which steer aggregation, be neither.

    Notes are the same if their texts are, white space aside. Patients (``Note.group``) are compared within
    one site only: what they are called elsewhere means nothing.
    """
    trained = _by_text((name, notes.notes) for name, notes in train.items())
    tested = _by_text((name, notes.notes) for name, notes in tests.items())
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
    for name, notes in tests.items():
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
