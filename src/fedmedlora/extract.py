"""``fedmedlora extract``: a saved adapter and new notes -> entities, modifiers and links."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedmedlora.corpora.note import Annotates, Note, union
from fedmedlora.corpora.schema import Schema
from fedmedlora.corpora.schema_record import schema_of_record
from fedmedlora.engine.reader import EngineReader
from fedmedlora.engine.request import refuse_form
from fedmedlora.engine.vllm import Served, lora_rank, start
from fedmedlora.engine.vllm import refuse_without_library as refuse_without_vllm
from fedmedlora.extraction.grammar import refuse_without_library
from fedmedlora.manifest import meaning
from fedmedlora.measure import Form, Reader, Reads, Report, predict_with
from fedmedlora.model.files import ModelFiles, model_files
from fedmedlora.model.load import BaseModel, load_base_model, quantization_here
from fedmedlora.model.lora import attach_lora, write_adapter
from fedmedlora.model.saved import read_manifest, read_saved_adapter, refuse_mismatch, refuse_other_config
from fedmedlora.progress import Progress
from fedmedlora.tasks.form import known_forms, read_by
from fedmedlora.tasks.instruction import is_instruction
from fedmedlora.tasks.task import finders

ENGINES = ("local", "vllm")
BATCH_SIZE = 16

MakeReader = Callable[[Report], Reads]


def extract(
    folder: Path,
    notes: tuple[Note, ...],
    *,
    model_name: str | None = None,
    batch_size: int = 0,
    decoding: str = "constrained",
    engine: str = "local",
    progress: Progress,
) -> tuple[Note, ...]:
    """``notes`` with what the adapter in ``folder`` finds in them, in place of their own annotations.

    An adapter that asks about given entities only keeps those of ``notes``. Asked for is what the
    adapter's sites annotated. ``model_name``: the base model, by default the one the manifest names.
    The schema and the form of the answers are the manifest's. ``decoding``: "constrained" or "free".
    ``engine``: "local", the model in this process, or "vllm". ``batch_size``: sentences at once; 0: 16 here,
    and as many as vLLM sees fit.
    Raises ``ValueError`` for a manifest that contradicts itself, and for an adapter made for another base
    model, prompts, form or segmentation.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r}: allowed are {', '.join(ENGINES)}")
    on_vllm = engine == "vllm"
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
    if on_vllm:
        _refuse_for_vllm(manifest, folder, decoding)
    elif decoding == "constrained" and read_by(output_form) == "generating":
        refuse_without_library()
    if decoding == "free" and read_by(output_form) == "tagging":
        raise ValueError(
            f"{folder}: the adapter was trained in form {output_form}, which generates nothing; leave "
            "--decoding out"
        )
    schema = schema_of_record(manifest["schema"], f"{folder}: fedmedlora.json: schema")
    combinations = [_annotates(one["annotates"], schema, folder) for one in manifest["trained_prompts"]]
    asked = union(combinations)
    base = find_files(model_name, manifest, folder) if on_vllm else _load_base(model_name, manifest, folder)
    expected = meaning(base, schema, combinations, tasks, output_form)
    expected["schema"] = manifest["schema"]  # read from there: it cannot differ, only be written otherwise
    form = Form(
        schema=schema,
        tasks=tuple(tasks["names"]),
        prompt_set=tasks["prompt_set"],
        scope=tasks["modifier_scope"],
        output_form=output_form,
        decoding=decoding,
        batch_size=batch_size,
    )
    try:
        refuse_mismatch(manifest, base, **expected)
        if isinstance(base, ModelFiles):
            make_reader = _on_vllm(base, manifest, folder, form)
        else:
            make_reader = _in_this_process(base, manifest, folder, form)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    blank = [replace(note, annotates=asked) for note in notes]
    cost = float(sum(len(note.text) for note in notes))
    progress.plan(cost)
    with progress.stage(f"reads {len(notes)} notes", cost) as advance:
        found = predict_with(make_reader(advance), blank, form)
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
    name, revision = _which_model(model_name, manifest, folder)
    try:
        quantization = quantization_here(manifest["base_model"]["quantization"])
        return load_base_model(name, quantization=quantization, revision=revision)
    except ValueError as error:
        raise ValueError(f"{error}; name the model that {folder} was trained over with --model") from error


def find_files(model_name: str | None, manifest: dict[str, Any], folder: Path) -> ModelFiles:
    """The files of the base model: the one that is asked for, or the manifest's."""
    name, revision = _which_model(model_name, manifest, folder)
    try:
        return model_files(name, revision=revision)
    except ValueError as error:
        raise ValueError(f"{error}; name the model that {folder} was trained over with --model") from error


def _which_model(model_name: str | None, manifest: dict[str, Any], folder: Path) -> tuple[str, str]:
    """(name, revision) of the base model: the one that is asked for, or the manifest's."""
    if model_name:
        return model_name, ""
    made_over = manifest["base_model"]
    if made_over["is_folder"]:
        raise ValueError(
            f"{folder}: was trained over a model in a folder called {made_over['name']!r}; name that folder "
            "with --model"
        )
    return made_over["name"], made_over["revision"]


def _in_this_process(base: BaseModel, manifest: dict[str, Any], folder: Path, form: Form) -> MakeReader:
    model = load_into(base, manifest, folder)
    form = replace(form, batch_size=form.batch_size or BATCH_SIZE)
    return lambda report: Reader(base, model, form, report)


def _on_vllm(files: ModelFiles, manifest: dict[str, Any], folder: Path, form: Form) -> MakeReader:
    read_saved_adapter(folder)  # for what it refuses; vLLM reads the file again
    refuse_other_config(manifest, folder)
    if manifest["base_model"]["quantization"] != "none":
        warnings.warn(
            f"{folder}: was trained over 4-bit weights (nf4) and is read over the full ones, in bfloat16: "
            "--engine vllm does not quantize",
            stacklevel=2,
        )
    rank = manifest["adapter"]["rank"]
    served = Served(files.folder, folder, rank, files.num_positions, form.batch_size)
    generate = start(served)
    return lambda report: EngineReader(
        generate,
        files.encoder,
        report,
        room_tokens=served.room_tokens,
        constrained=form.decoding == "constrained",
    )


def _refuse_for_vllm(manifest: dict[str, Any], folder: Path, decoding: str) -> None:
    """Raise ``ValueError`` for what vLLM cannot serve, before anything is loaded."""
    refuse_without_vllm()
    try:
        lora_rank(manifest["adapter"]["rank"])
        refuse_form(manifest["output_form"], constrained=decoding == "constrained")
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    if not manifest["readable_by_generate"]:
        raise ValueError(
            f'{folder}: the adapter was trained with loss = "decision" alone, which leaves it unable to '
            "write an answer by itself; only the constrained decoder reads it (--engine local)"
        )


def load_into(base: BaseModel, manifest: dict[str, Any], folder: Path) -> Any:
    """``base`` with the saved adapter of ``folder`` attached, ready to read."""
    shape = manifest["adapter"]
    model = attach_lora(base.model, rank=shape["rank"], alpha=shape["alpha"], targets=shape["targets"])
    write_adapter(model, read_saved_adapter(folder))
    return model.eval()
