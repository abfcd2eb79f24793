"""What a task is, and how one is found by name.

A task is one file in ``kinds/``, and one text per set of prompts. The file's name is the task's name in a
study's TOML, in a manifest and in the results. To add a task, add the file: the contract suite
(``tests/tasks/test_task_contract.py``) picks it up and holds it to the laws below. Lookup knows the files
of that folder only, so no name can import anything else.

Laws, for every task:

1. In every form, rendering a note with its gold and annotating it with what the targets say gives back
   every annotation that the form can express. All others are returned as ``Unplaced``; they count as gold.
2. What is asked, the pieces and the input are the same with gold and without: a function of the text, of
   what the note annotates and, where ``NEEDS_ENTITIES``, of the note's entities.
3. A note that annotates nothing of what the task asks for gives no example.
4. No answer makes ``annotate`` raise; what it adds lies inside the note and is of a type that was asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol, cast

import fedmedlora.tasks.kinds
from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.schema import Schema
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.markup import Mention
from fedmedlora.tasks.segments import Segment

Answer = tuple[Example, tuple[Mention, ...]]  # an example, and what was found in it


@dataclass(frozen=True, slots=True)
class Unplaced:
    """One annotation that no target holds. It still counts as gold.

    ``kind``: "entity", "modifier" or "link". ``id``: that of the annotation; for a link
    ``"entity_id>modifier_id"``. ``reason``: one of ``markup.REASONS``, or what its task states.
    """

    note_id: str
    kind: str
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """The examples of one note under one task, and what they could not express."""

    examples: tuple[Example, ...]
    unplaced: tuple[Unplaced, ...]


class Task(Protocol):
    """What a file in ``kinds/`` holds. The laws are in the module docstring."""

    @property
    def NEEDS_ENTITIES(self) -> bool:  # noqa: N802 - a constant of the file
        """Whether it asks about the note's entities (gold or found before), or finds entities itself."""

    def labels(self, schema: Schema, annotates: Annotates) -> tuple[str, ...]:
        """What may be asked for in notes that annotate ``annotates``, in canonical order."""

    def examples(
        self,
        note: Note,
        segments: Sequence[Segment],
        schema: Schema,
        *,
        prompt_set: str = "study",
        scope: str = "entity",
        form: str = "markup",
        with_gold: bool,
    ) -> Rendered:
        """The task's questions about ``note``, one or more per segment; with their targets ``with_gold``.

        ``form``: how answers are written (``tasks/form.py``).
        """

    def annotate(self, note: Note, answers: Sequence[Answer]) -> Note:
        """``note`` with what was found in the examples that ``examples`` made of it."""


@cache
def known_tasks() -> tuple[str, ...]:
    """Names of all tasks, those that find entities first: in this order they are asked."""
    names = sorted(module.name for module in pkgutil.iter_modules(fedmedlora.tasks.kinds.__path__))
    return tuple(sorted(names, key=lambda name: _load(name).NEEDS_ENTITIES))


def load_task(name: str) -> Task:
    """The task in the file ``name``. Raises ``ValueError`` listing the known ones."""
    if name not in known_tasks():
        raise ValueError(f"unknown task {name!r}; known tasks: {', '.join(known_tasks())}")
    return _load(name)


def finders(names: Sequence[str]) -> tuple[str, ...]:
    """Those of ``names`` that find entities, in the order in which tasks are asked."""
    return tuple(name for name in known_tasks() if name in names and not _load(name).NEEDS_ENTITIES)


def askers(names: Sequence[str]) -> tuple[str, ...]:
    """Those of ``names`` that ask about given entities, in the order in which tasks are asked."""
    return tuple(name for name in known_tasks() if name in names and _load(name).NEEDS_ENTITIES)


def _load(name: str) -> Task:
    return cast(Task, importlib.import_module(f"fedmedlora.tasks.kinds.{name}"))
