"""What an output form is, and how one is found by name.

A form says how an answer is written: what the input shows, what the target is, and how a model's text is
read. Every task can be asked in every form. A form is one file in ``forms/``, one text per set of prompts
and task (``prompts/<set>/<form>/<task>.txt``; of "markup", the first, ``prompts/<set>/<task>.txt``), and one
table in ``prompts/scopes.toml``. Its file's name is its name in a study's TOML and in a manifest.

Laws, for every form (``tests/tasks/test_form_contract.py``):

1. Reading a rendered target gives back every mention that was placed in it, and says that it is complete
   and that everything was found. The rest is returned with its reason.
2. ``read`` raises on no text, in time about linear in it; what it finds lies in the sentence, is of a label
   that was asked for, and is there once.
3. What the input shows is a function of the pieces alone.
4. Where there is a grammar, every rendered target is a sentence of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol, cast

import fedmedlora.tasks.forms
from fedmedlora.corpora.note import Entity
from fedmedlora.tasks.example import PLAIN, Example, Piece
from fedmedlora.tasks.markup import Mention

DEFAULT = "markup"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model's text says.

    ``complete``: whether all of it could be read. ``num_ungrounded``: mentions that it names and that the
    sentence does not hold; they are dropped, never guessed. ``confidences``: how sure the model is of each
    mention, from 0 to 1; None where that is not known.
    """

    mentions: tuple[Mention, ...]
    complete: bool
    num_ungrounded: int
    confidences: tuple[float, ...] | None = None


# What reads a form, and so what its target is: "copying", a path of the copy constraint
# (``tasks/copying.py``); "tagging", a word for each piece, none of which is ever generated
# (``tasks/tagging.py``); "generating", text.
ReadBy = Literal["copying", "tagging", "generating"]


def read_by(form: str) -> ReadBy:
    """What reads answers in ``form``, by name; those in ``PLAIN`` are text."""
    return "generating" if form == PLAIN else load_form(form).READ_BY


class Form(Protocol):
    """What a file in ``forms/`` holds. The laws are in the module docstring."""

    @property
    def READ_BY(self) -> ReadBy:  # noqa: N802 - a constant of the file
        """Which decoder reads it. Where that is not "generating", there are decisions to train on."""

    def written(self, pieces: Sequence[Piece]) -> tuple[str, ...]:
        """The sentence as the input shows it: strings that are tokenized one by one."""

    def render(
        self, pieces: Sequence[Piece], entities: Sequence[Entity], labels: Sequence[str]
    ) -> tuple[tuple[str, ...], tuple[tuple[Entity, str], ...]]:
        """The target, and ``(entity, reason)`` for each entity that it cannot hold.

        ``labels``: the types asked for, in canonical order.
        """

    def read(self, example: Example, text: str) -> Reading:
        """What ``text``, generated for ``example``, says."""

    def limit(self, num_tokens: int) -> int:
        """Tokens that an answer about a sentence of ``num_tokens`` may take."""

    def grammar(self, labels: Sequence[str]) -> dict[str, Any] | None:
        """A JSON schema for answers with ``labels``, written without white space; None: there is none."""

    def tag_texts(self, labels: tuple[str, ...]) -> Mapping[str, str]:
        """How the tags of the copy constraint are written, by tag; one that is missing, as it is."""


@cache
def known_forms() -> tuple[str, ...]:
    """Names of all forms, the default first."""
    names = sorted(module.name for module in pkgutil.iter_modules(fedmedlora.tasks.forms.__path__))
    return tuple(sorted(names, key=lambda name: name != DEFAULT))


def load_form(name: str) -> Form:
    """The form in the file ``name``. Raises ``ValueError`` listing the known ones."""
    if name not in known_forms():
        raise ValueError(f"unknown form {name[:80]!r}; known forms: {', '.join(known_forms())}")
    return cast(Form, importlib.import_module(f"fedmedlora.tasks.forms.{name}"))
