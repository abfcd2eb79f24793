"""``fedmedlora extract``: a saved adapter and new notes -> entities, modifiers and links."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fedmedlora.corpora.note import Annotates, Note, union
from fedmedlora.corpora.schema import Schema
from fedmedlora.corpora.schema_record import schema_of_record
from fedmedlora.extraction.grammar import refuse_without_library
from fedmedlora.manifest import meaning
from fedmedlora.measure import Form, predict
from fedmedlora.model.load import BaseModel, load_base_model, quantization_here
from fedmedlora.model.lora import attach_lora, write_adapter
from fedmedlora.model.saved import read_manifest, read_saved_adapter, refuse_mismatch
from fedmedlora.progress import Progress
from fedmedlora.tasks.form import known_forms, read_by
from fedmedlora.tasks.instruction import is_instruction
from fedmedlora.tasks.task import finders


def extract(
    folder: Path,
    notes: tuple[Note, ...],
    *,
    model_name: str | None = None,
    batch_size: int = 16,
    decoding: str = "constrained",
    progress: Progress,
) -> tuple[Note, ...]:
    """``notes`` with what the adapter in ``folder`` finds in them, in place of their own annotations.

    An adapter that asks about given entities only keeps those of ``notes``. Asked for is what the
    adapter's sites annotated. ``model_name``: the base model, by default the one the manifest names.
    The schema and the form of the answers are the manifest's. ``decoding``: "constrained" or "free".
    Raises ``ValueError`` for a manifest that contradicts itself, and for an adapter made for another base
    model, prompts, form or segmentation.
    """
    manifest = read_manifest(folder)
    tasks, output_form = manifest["tasks"], manifest["output_form"]
    if not tasks["names"]:
        raise ValueError(f"{folder}: fedmedlora.json: tasks: names: the adapter has no task")
    if is_instruction(tasks["names"]):
        raise ValueError(
            f"{folder}: the adapter was trained to answer prompts (task instruction) and finds nothing in "
            "notes; docs/instruction-data.md shows how to ask it"
        )
    if not finders(tasks["names"]) and not any(note.entities for note in notes):
        raise ValueError(
            f"{folder}: the adapter was trained to find modifiers of given entities only, and the notes "
            "have no entities; give notes with entities (JSONL or BRAT)"
        )
    if output_form not in known_forms():
        raise ValueError(
            f"{folder}: the adapter was trained with another output form than this version of fedmedlora has "
            f"({', '.join(known_forms())}); use the version it was trained with"
        )
    if decoding == "constrained" and read_by(output_form) == "generating":
        refuse_without_library()
    if decoding == "free" and read_by(output_form) == "tagging":
        raise ValueError(
            f"{folder}: the adapter was trained in form {output_form}, which generates nothing; leave "
            "--decoding out"
        )
    schema = schema_of_record(manifest["schema"], f"{folder}: fedmedlora.json: schema")
    combinations = [_annotates(one["annotates"], schema, folder) for one in manifest["trained_prompts"]]
    asked = union(combinations)
    base = _load_base(model_name, manifest, folder)
    expected = meaning(base, schema, combinations, tasks, output_form)
    expected["schema"] = manifest["schema"]  # read from there: it cannot differ, only be written otherwise
    try:
        refuse_mismatch(manifest, base, **expected)
        model = load_into(base, manifest, folder)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    form = Form(
        schema=schema,
        tasks=tuple(tasks["names"]),
        prompt_set=tasks["prompt_set"],
        scope=tasks["modifier_scope"],
        output_form=output_form,
        decoding=decoding,
        batch_size=batch_size,
    )
    blank = [replace(note, annotates=asked) for note in notes]
    cost = float(sum(len(note.text) for note in notes))
    progress.plan(cost)
    with progress.stage(f"reads {len(notes)} notes", cost) as advance:
        found = predict(base, model, blank, form, advance)
    kept = found.end_to_end if found.end_to_end is not None else found.given_gold
    assert kept is not None, "checked above: an adapter has a task"
    return tuple(kept[note.id] for note in notes)


def _annotates(record: dict[str, list[str]], schema: Schema, folder: Path) -> Annotates:
    """What some notes annotate, out of a manifest that may come from anywhere."""
    for kind, known in (("entities", schema.entities), ("pairs", schema.pair_names())):
        unknown = sorted(set(record[kind]) - set(known))
        if unknown:
            raise ValueError(
                f"{folder}: fedmedlora.json: trained_prompts: annotates: {unknown[0][:40]!r} is not among "
                f"the {kind} of its schema {schema.name!r}"
            )
    return Annotates(frozenset(record["entities"]), frozenset(record["pairs"]))


def _load_base(model_name: str | None, manifest: dict[str, Any], folder: Path) -> BaseModel:
    made_over = manifest["base_model"]
    if made_over["is_folder"] and not model_name:
        raise ValueError(
            f"{folder}: was trained over a model in a folder called {made_over['name']!r}; name that folder "
            "with --model"
        )
    try:
        quantization = quantization_here(made_over["quantization"])
        if model_name:
            return load_base_model(model_name, quantization=quantization)
        return load_base_model(made_over["name"], quantization=quantization, revision=made_over["revision"])
    except ValueError as error:
        raise ValueError(f"{error}; name the model that {folder} was trained over with --model") from error


def load_into(base: BaseModel, manifest: dict[str, Any], folder: Path) -> Any:
    """``base`` with the saved adapter of ``folder`` attached, ready to read."""
    shape = manifest["adapter"]
    model = attach_lora(base.model, rank=shape["rank"], alpha=shape["alpha"], targets=shape["targets"])
    write_adapter(model, read_saved_adapter(folder))
    return model.eval()
