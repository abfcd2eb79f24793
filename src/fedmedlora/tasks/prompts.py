"""The shared part of a prompt: templates under ``prompts/<set>/``, filled for one source.

``<task>.txt`` asks for inline markup, ``<form>/<task>.txt`` for another output form. What a label means comes
from the schema.

A prompt names exactly the types that the source annotates, in canonical order. It is the same text
for every example of such a source (training computes this prefix once), so in scope "entity" it does
not know the type of the entity in focus: the input shows that. It ends where the input begins.

Sets: "study" is about as long as the prompts of Li et al. (arXiv:2601.22124; the words are ours),
"short" is for small models and small machines. A new set is a new folder.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from fedmedlora.corpora.note import Annotates
from fedmedlora.corpora.schema import Schema
from fedmedlora.tasks.copying import close_tag, open_tag
from fedmedlora.tasks.form import DEFAULT, known_forms, load_form
from fedmedlora.tasks.task import known_tasks, load_task

SCOPES = ("entity", "sentence")


def instruction(
    task: str,
    schema: Schema,
    annotates: Annotates,
    *,
    prompt_set: str = "study",
    scope: str = "entity",
    form: str = DEFAULT,
) -> str:
    """The instruction of ``task``, by name, for notes that annotate ``annotates``.

    ``scope`` ("entity" or "sentence") says for "modifiers" which entities the input marks. ``form``: how the
    answer is to be written. Raises ``ValueError`` for an unknown task, set, scope or form, and when there is
    nothing to ask for.
    """
    _known("form", form, known_forms())
    _known("scope", scope, SCOPES)
    _known("prompt set", prompt_set, prompt_sets())
    labels = load_task(task).labels(schema, annotates)
    if not labels:
        raise ValueError(
            f"task {task!r}: the source annotates nothing of schema {schema.name!r} that it asks for; give "
            "a source that annotates some, or leave this task out"
        )
    asked = [(e, modifier_labels(schema, annotates, e)) for e in schema.entities]
    texts = load_form(form).tag_texts(labels)
    marks = {label: texts.get(open_tag(label), open_tag(label)) for label in labels}
    fields = {
        "long_scope": _scopes()[form][scope]["long"],
        "short_scope": _scopes()[form][scope]["short"],
        "long_definitions": "\n".join(f"- {_defined(schema, label, 'long', '{}: {}')}" for label in labels),
        "short_definitions": ", ".join(_defined(schema, label, "short", "{} ({})") for label in labels),
        "pairs": "\n".join(f"- {e}: {', '.join(ms)}" for e, ms in asked if ms),
        "tags": ", ".join(open_tag(label) + close_tag(label) for label in labels),
        "first_tags": open_tag(labels[0]) + close_tag(labels[0]),
        "marks": ", ".join(f"{mark} for {label}" for label, mark in marks.items()),
        "types": ", ".join(labels),
        "first_type": labels[0],
    }
    return _template(prompt_set, task, form).format_map(fields)


def prompts_hash(tasks: Sequence[str], *, prompt_set: str, form: str) -> str:
    """sha256 of all words that the prompts of ``tasks``, by name, are made of here, but for the schema's.

    The same whatever a system ends its lines with. A task without a template, such as "instruction", adds
    nothing: its prompts are in its notes.
    """
    known = [task for task in sorted(tasks) if task in known_tasks()]
    words = [[task, _template(prompt_set, task, form)] for task in known]
    return hashlib.sha256(json.dumps([words, _scopes()[form]], sort_keys=True).encode()).hexdigest()


def entity_labels(schema: Schema, annotates: Annotates) -> tuple[str, ...]:
    """Entity types that the source annotates, in canonical order."""
    return tuple(e for e in schema.entities if e in annotates.entities)


def modifier_labels(schema: Schema, annotates: Annotates, entity_type: str) -> tuple[str, ...]:
    """Modifiers that may attach to ``entity_type`` and are annotated on it, in canonical order."""
    annotated = annotates.modifiers_of(entity_type)
    return tuple(m for m in schema.modifiers_of(entity_type) if m in annotated)


def all_modifier_labels(schema: Schema, annotates: Annotates) -> tuple[str, ...]:
    """Modifiers annotated on any entity type, in canonical order."""
    found = {m for e in schema.entities for m in modifier_labels(schema, annotates, e)}
    return tuple(m for m in schema.modifiers if m in found)


@cache
def prompt_sets() -> tuple[str, ...]:
    """Names of the sets in the package."""
    return tuple(sorted(f.name for f in _folder().iterdir() if f.is_dir() and not f.name.startswith("_")))


def _defined(schema: Schema, label: str, length: str, form: str) -> str:
    meaning = getattr(schema.definition(label), length)
    return form.format(label, meaning) if meaning else label


def _known(kind: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(names)}")


@cache
def _template(prompt_set: str, task: str, form: str) -> str:
    folder = _folder() / prompt_set
    path = (folder if form == DEFAULT else folder / form) / f"{task}.txt"
    return path.read_text(encoding="utf-8")


@cache
def _scopes() -> dict[str, Any]:
    return tomllib.loads((_folder() / "scopes.toml").read_text(encoding="utf-8"))


def _folder() -> Traversable:
    return files("fedmedlora.tasks") / "prompts"
