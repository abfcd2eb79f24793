"""A study's files -> what its rounds work on: sites with token examples, cohorts with test notes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedmedlora.corpora.jsonl import NoteSet, annotates_json
from fedmedlora.corpora.load import load_notes
from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.schema import CLINICAL, Schema
from fedmedlora.corpora.sentences import sentences
from fedmedlora.in_process import LocalSite
from fedmedlora.model.tokens import Encoder, TokenExample
from fedmedlora.study import Study
from fedmedlora.tasks.training_set import sample_examples, sample_notes, training_set


@dataclass(frozen=True)
class Cohort:
    """Notes that are predicted on. ``kind``: "site", "external" or "new-site"."""

    name: str
    kind: str
    synthetic: bool
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Prepared:
    """``records``: one entry per cohort for ``results.json``. ``file_hashes``: path as written -> sha256.

    ``asked``: what each site annotates, by name.
    """

    schema: Schema
    sites: tuple[LocalSite, ...]
    cohorts: tuple[Cohort, ...]
    validation: tuple[TokenExample, ...]
    validation_notes: tuple[Note, ...]
    asked: dict[str, Annotates]
    records: tuple[dict[str, Any], ...]
    file_hashes: dict[str, str]


def file_hashes(study: Study) -> dict[str, str]:
    """sha256 of every file (or of the files in every folder) of notes that the study names."""
    found = {}
    for _, path in study.files():
        root = study.resolve(path)
        digest = hashlib.sha256()
        for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if file.is_file():
                digest.update(str(file.relative_to(root)).encode())
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        found[path] = digest.hexdigest()
    return found


def prepare(study: Study, encoder: Encoder, schema: Schema = CLINICAL) -> Prepared:
    """Read the study's notes and turn them into examples.

    Raises ``ValueError`` for a site without training examples, for validation notes that are also
    training or test notes, and for whatever the readers refuse.
    """
    train = {site.name: _read(study, site.train, schema) for site in study.sites}
    tests: list[tuple[str, str, NoteSet]] = [
        (site.name, "site", _read(study, site.test, schema)) for site in study.sites if site.test
    ]
    tests += [(c.name, c.kind, _read(study, c.test, schema)) for c in study.cohorts]
    validation = [note for path in study.validation.notes for note in _read(study, path, schema).notes]
    _refuse_overlap(validation, train, tests)
    # Ids are unique in a file, not across the files of a validation set.
    validation = [replace(note, id=f"{i}:{note.id}") for i, note in enumerate(validation)]

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
        record["num_test_sentences"] = sum(len(sentences(note.text)) for note in kept)
        if name not in by_name:
            records.append(record)
    return Prepared(
        schema=schema,
        sites=tuple(sites),
        cohorts=tuple(cohorts),
        validation=_drawn(
            study,
            encoder,
            schema,
            validation,
            num=study.validation.max_sentences,
            modifier_share=None,
            name="validation",
        )[0],
        validation_notes=sample_notes(
            validation, max_sentences=study.validation.max_sentences, seed=study.seed, name="validation"
        ),
        asked={name: union(note.annotates for note in notes.notes) for name, notes in train.items()},
        records=tuple(records),
        file_hashes=file_hashes(study),
    )


def union(parts: Iterable[Annotates]) -> Annotates:
    """Everything that any of ``parts`` annotates."""
    entities: set[str] = set()
    pairs: set[str] = set()
    for part in parts:
        entities |= part.entities
        pairs |= part.pairs
    return Annotates(frozenset(entities), frozenset(pairs))


def _read(study: Study, path: str, schema: Schema) -> NoteSet:
    return load_notes(study.resolve(path), schema)


def _site_examples(
    study: Study, encoder: Encoder, schema: Schema, name: str, notes: NoteSet
) -> tuple[tuple[TokenExample, ...], dict[str, Any]]:
    share = study.training.modifier_share
    kept, num_too_long, not_expressible = _drawn(
        study,
        encoder,
        schema,
        notes.notes,
        num=study.training.max_train_examples,
        modifier_share=None if isinstance(share, str) else share,
        name=name,
    )
    record = _cohort_record(name, "site", notes)
    record |= {
        "num_train_notes": len(notes.notes),
        "num_train_examples": len(kept),
        "not_expressible": not_expressible,
        "too_long": num_too_long,
    }
    return kept, record


def _drawn(
    study: Study,
    encoder: Encoder,
    schema: Schema,
    notes: Sequence[Note],
    *,
    num: int,
    modifier_share: float | None,
    name: str,
) -> tuple[tuple[TokenExample, ...], int, dict[str, int]]:
    """``num`` examples (0: all) of ``notes``: those that fit, how many did not, what no target can hold."""
    rendered = training_set(
        notes,
        schema,
        use_ner=study.tasks.ner,
        use_modifiers=study.tasks.modifiers,
        prompt_set=study.tasks.prompts,
        scope=study.tasks.modifier_scope,
    )
    chosen = sample_examples(
        rendered.ner,
        rendered.modifiers,
        num=num,
        modifier_share=modifier_share,
        seed=study.seed,
        name=name,
    )
    kept, num_too_long = fitting([encoder.encode(e) for e in chosen], study.tasks.max_tokens)
    return kept, num_too_long, rendered.not_expressible


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
        "too_long": 0,
    }


def _refuse_overlap(
    validation: Sequence[Note], train: dict[str, NoteSet], tests: Sequence[tuple[str, str, NoteSet]]
) -> None:
    """A validation set that steers aggregation must not hold what is trained on or measured."""
    ours = {note.text_hash(): note.id for note in validation if note.text.strip()}
    sets = [(f"training notes of {name}", notes) for name, notes in train.items()]
    sets += [(f"test notes of {name}", notes) for name, _, notes in tests]
    for what, notes in sets:
        for note in notes.notes:
            if note.text_hash() in ours:
                raise ValueError(
                    f"[validation]: note {ours[note.text_hash()]!r} is also among the {what} (as "
                    f"{note.id!r}); validation notes must be of neither, take it out of one of them"
                )
