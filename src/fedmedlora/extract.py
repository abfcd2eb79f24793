"""``fedmedlora extract``: a saved adapter and new notes -> entities, modifiers and links."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.schema import CLINICAL, Schema
from fedmedlora.corpora.sentences import SEGMENTATION_VERSION
from fedmedlora.manifest import prompts
from fedmedlora.measure import Form, predict
from fedmedlora.model.load import BaseModel, load_base_model
from fedmedlora.model.lora import attach_lora, write_adapter
from fedmedlora.model.saved import read_manifest, read_saved_adapter, refuse_mismatch
from fedmedlora.progress import Progress


def extract(
    folder: Path,
    notes: tuple[Note, ...],
    *,
    model_name: str | None = None,
    batch_size: int = 16,
    progress: Progress,
    schema: Schema = CLINICAL,
) -> tuple[Note, ...]:
    """``notes`` with what the adapter in ``folder`` finds in them, in place of their own annotations.

    Asked for is what the adapter's sites annotated. ``model_name``: the base model, by default the one
    the manifest names. Raises ``ValueError`` for an adapter made for another base model, schema, prompts
    or segmentation.
    """
    manifest = read_manifest(folder)
    try:
        base = load_base_model(model_name or manifest["base_model"]["name"])
    except ValueError as error:
        raise ValueError(f"{error}; name the model that {folder} was trained over with --model") from error
    asked = Annotates(frozenset(manifest["annotates"]["entities"]), frozenset(manifest["annotates"]["pairs"]))
    tasks = manifest["tasks"]
    try:
        refuse_mismatch(
            manifest,
            base,
            schema=schema.name,
            segmentation_version=SEGMENTATION_VERSION,
            output_form="markup",
            prompts=prompts(schema, asked, tasks["prompt_set"], tasks["modifier_scope"]),
        )
        model = load_into(base, manifest, folder)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    form = Form(
        schema=schema,
        use_ner=tasks["ner"],
        use_modifiers=tasks["modifiers"],
        prompt_set=tasks["prompt_set"],
        scope=tasks["modifier_scope"],
        batch_size=batch_size,
    )
    blank = [replace(note, annotates=asked) for note in notes]
    cost = float(sum(len(note.text) for note in notes))
    progress.plan(cost)
    with progress.stage(f"reads {len(notes)} notes", cost) as advance:
        found = predict(base, model, blank, form, advance)
    kept = found.end_to_end if found.end_to_end is not None else found.given_gold
    assert kept is not None, "an adapter has at least one task"
    return tuple(kept[note.id] for note in notes)


def load_into(base: BaseModel, manifest: dict[str, Any], folder: Path) -> Any:
    """``base`` with the saved adapter of ``folder`` attached, ready to read."""
    shape = manifest["adapter"]
    model = attach_lora(base.model, rank=shape["rank"], alpha=shape["alpha"], targets=shape["targets"])
    write_adapter(model, read_saved_adapter(folder))
    return model.eval()
