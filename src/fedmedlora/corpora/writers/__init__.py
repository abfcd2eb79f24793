"""One file per format that notes are written in; the file's name is the format's name.

A writer module has ``write(notes: tuple[Note, ...], out: Path) -> Counter[str]``: it puts the notes at
``out``, all of them or none, and returns what the format cannot hold, by reason. What it holds, the reader
of the same name gives back: ``tests/corpora/test_writer_contract.py`` runs over every format here.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from fedmedlora.corpora.note import Note

# Read back without it, what nobody looked for would count as absent.
ANNOTATES = "what a note's source annotates: no place for it; say it under [annotates] of a mapping"

Writer = Callable[[tuple[Note, ...], Path], Counter[str]]


def writer_names() -> tuple[str, ...]:
    """Names of the writers in this package, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(
        sorted(f.name.removesuffix(".py") for f in files if f.name.endswith(".py") and f.name[0] != "_")
    )


def load_writer(name: str) -> Writer:
    """The ``write`` function of ``writers/<name>.py``. Raises ``ValueError`` listing the known names."""
    if name not in writer_names():
        raise ValueError(f"unknown format {name!r}; notes can be written as: {', '.join(writer_names())}")
    writer: Writer = importlib.import_module(f"{__name__}.{name}").write
    return writer


def left_out(notes: tuple[Note, ...], *keys: str) -> Counter[str]:
    """How often the notes have something that a format has no place for: "group", "meta".

    No format here says what a source annotates at all.
    """
    found = Counter({ANNOTATES: len(notes)})
    for key in keys:
        found[f"{key} of a note: the format has no place for it"] = sum(bool(getattr(n, key)) for n in notes)
    return +found


def refuse_without_text(notes: tuple[Note, ...], form: str) -> None:
    """Raise ``ValueError`` for a note that has annotations and no text: ``form`` holds both together."""
    for note in notes:
        if not note.text and (note.entities or note.modifiers):
            raise ValueError(
                f"note {note.id!r} has annotations but no text; {form} needs the text beside them. "
                "Write JSONL instead, or extract again with the text"
            )
