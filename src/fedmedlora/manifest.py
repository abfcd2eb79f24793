"""What lies beside a saved adapter: everything that its meaning depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedmedlora import __version__
from fedmedlora.corpora.note import Annotates
from fedmedlora.corpora.schema import Schema
from fedmedlora.corpora.sentences import SEGMENTATION_VERSION
from fedmedlora.model.load import BaseModel
from fedmedlora.tasks.prompts import all_modifier_labels, entity_labels, instruction


def plain_name(base: BaseModel) -> str:
    """The base model's name without any path of this machine."""
    return Path(base.name).name if Path(base.name).is_dir() else base.name


def manifest(
    base: BaseModel,
    *,
    schema_name: str,
    annotates: dict[str, list[str]],
    prompts: dict[str, str],
    tasks: dict[str, Any],
    adapter: dict[str, Any],
    loss: str,
) -> dict[str, Any]:
    """What lies beside a saved adapter: everything that its meaning depends on."""
    return {
        "fedmedlora": __version__,
        "base_model": {"name": plain_name(base), "hash": base.hash},
        "adapter": adapter,
        "schema": schema_name,
        "annotates": annotates,
        "tasks": tasks,
        "prompts": prompts,
        "output_form": "markup",
        "loss": loss,
        # After the decision loss alone, nothing but our decoder can read the adapter.
        "readable_by_generate": loss != "decision",
        "segmentation_version": SEGMENTATION_VERSION,
    }


def prompts(schema: Schema, asked: Annotates, prompt_set: str, scope: str) -> dict[str, str]:
    """The instructions, word for word, for the union of what the sites annotate."""
    found = {}
    if entity_labels(schema, asked):
        found["ner"] = instruction("ner", schema, asked, prompt_set=prompt_set, scope=scope)
    if all_modifier_labels(schema, asked):
        found["modifiers"] = instruction("modifiers", schema, asked, prompt_set=prompt_set, scope=scope)
    return found
