"""What lies beside a saved adapter: everything that its meaning depends on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from fedmedlora import __version__
from fedmedlora.corpora.jsonl import annotates_json
from fedmedlora.corpora.note import Annotates, union
from fedmedlora.corpora.schema import Schema
from fedmedlora.corpora.schema_record import schema_record
from fedmedlora.corpora.sentences import SEGMENTATION_VERSION
from fedmedlora.model.load import BaseModel
from fedmedlora.model.tokens import Encoder
from fedmedlora.tasks.instruction import is_instruction
from fedmedlora.tasks.prompts import instruction
from fedmedlora.tasks.task import load_task


class Encodes(Protocol):
    """A base model as far as its tokenizer goes."""

    @property
    def encoder(self) -> Encoder:
        """The tokenizer."""


def plain_name(base: BaseModel) -> str:
    """The base model's name without any path of this machine."""
    return Path(base.name).resolve().name if Path(base.name).is_dir() else base.name


def manifest(
    base: BaseModel,
    schema: Schema,
    trained_on: Iterable[Annotates],
    *,
    tasks: dict[str, Any],
    adapter: dict[str, Any],
    loss: str,
    form: str = "markup",
) -> dict[str, Any]:
    """The manifest of an adapter trained on notes that annotate ``trained_on``, each combination once."""
    combinations = sorted(set(trained_on), key=lambda one: (sorted(one.entities), sorted(one.pairs)))
    return {
        "fedmedlora": __version__,
        "base_model": {
            "name": plain_name(base),
            # A folder's last name is all that travels of it, and nothing to look for on a hub.
            "is_folder": Path(base.name).is_dir(),
            "hash": base.hash,
            "revision": base.revision,
            "precision": base.precision,
            "quantization": base.quantization,
        },
        "adapter": adapter,
        "tasks": tasks,
        "loss": loss,
        # After the decision loss alone, nothing but our decoder can read the adapter.
        "readable_by_generate": loss != "decision",
        **meaning(base, schema, combinations, tasks, form),
    }


def meaning(
    base: Encodes,
    schema: Schema,
    combinations: Iterable[Annotates],
    tasks: dict[str, Any],
    form: str = "markup",
) -> dict[str, Any]:
    """The part of a manifest that must be the same where the adapter is read, or its answers mean nothing.

    ``annotates`` and ``prompts``: everything together, and the instructions for it, word for word, which
    is what ``extract`` asks; ``trained_prompts``: those that were trained, one entry per combination that
    some notes annotate.
    """
    combinations = tuple(combinations)
    together = union(combinations)
    return {
        "annotates": annotates_json(together),
        "schema": schema_record(schema),
        "prompts": prompts(schema, together, tasks, form),
        "trained_prompts": [
            {"annotates": annotates_json(one), **prompts(schema, one, tasks, form)} for one in combinations
        ],
        "output_form": form,
        "segmentation_version": SEGMENTATION_VERSION,
        "frame": dict(zip(("before", "after"), base.encoder.frame, strict=True)),
        "tokenizer_hash": base.encoder.tokenizer_hash(),
    }


def prompts(schema: Schema, asked: Annotates, tasks: dict[str, Any], form: str) -> dict[str, str]:
    """The instruction of each task for notes that annotate ``asked``, for answers written in ``form``."""
    how = {"prompt_set": tasks["prompt_set"], "scope": tasks["modifier_scope"], "form": form}
    return {
        name: instruction(name, schema, asked, **how)
        for name in tasks["names"]
        if not is_instruction((name,)) and load_task(name).labels(schema, asked)
    }
