"""Notes to IOB2, the inverse of ``formats/iob.py``: one file, ``TOKEN<TAB>TAG`` per line.

A note begins with ``-DOCSTART-<TAB>ID<TAB>O``. Its tokens are runs of letters and digits, and single other
characters, cut wherever an entity begins or ends; the spaces between them are lost, as in all such files. The
format holds entities that neither overlap nor have gaps: of overlapping ones the longest is written (of equal
ones the first), and what is left out is counted, modifiers and links too.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from fedmedlora.corpora.jsonl import write_atomically
from fedmedlora.corpora.note import Entity, Note
from fedmedlora.corpora.sentences import sentences
from fedmedlora.corpora.writers import left_out, refuse_without_text

_TOKEN = re.compile(r"[^\W_]+|\S")


def write(notes: tuple[Note, ...], out: Path) -> Counter[str]:
    """Write ``notes`` to the file ``out``; what IOB cannot hold, by reason.

    Raises ``ValueError`` for an id or a type with white space in it, and for annotations without a text.
    """
    refuse_without_text(notes, "IOB")
    skipped = left_out(notes, "group", "meta")
    lines: list[str] = []
    for note in notes:
        for what, words in (("note id", [note.id]), ("type", [e.type for e in note.entities])):
            for word in words:
                if not word or re.search(r"\s", word):
                    raise ValueError(
                        f"note {note.id!r}: the {what} {word!r} has white space; IOB cannot hold it"
                    )
        lines += [f"-DOCSTART-\t{note.id}\tO", ""]
        kept = _flat(note, skipped)
        skipped["modifier: IOB holds entities only"] += len(note.modifiers)
        skipped["link: IOB holds entities only"] += len(note.links)
        for start, end in sentences(note.text, [(e.start, e.end) for e in kept]):
            lines += [f"{token}\t{tag}" for token, tag in _tagged(note.text, start, end, kept)]
            lines.append("")
    write_atomically(out, "\n".join([*lines, ""] if lines else [""]).encode("utf-8"))
    return +skipped


def _flat(note: Note, skipped: Counter[str]) -> list[Entity]:
    """Entities that do not overlap, ascending: the longest first, then in the note's order."""
    kept: list[Entity] = []
    for entity in sorted(note.entities, key=lambda e: e.start - e.end):
        if len(entity.span) > 1:
            skipped["entity with a gap: IOB has none"] += 1
        elif not note.text[entity.start : entity.end].strip():
            skipped["entity of white space"] += 1
        elif any(entity.start < other.end and other.start < entity.end for other in kept):
            skipped["entity that overlaps a longer one: IOB has none"] += 1
        else:
            kept.append(entity)
    return sorted(kept, key=lambda e: e.start)


def _tagged(text: str, start: int, end: int, kept: list[Entity]) -> list[tuple[str, str]]:
    cuts = sorted({start, end, *(c for e in kept for c in (e.start, e.end) if start <= c <= end)})
    found = []
    for a, b in pairwise(cuts):
        entity = next((e for e in kept if e.start <= a and b <= e.end), None)
        for index, match in enumerate(_TOKEN.finditer(text, a, b)):
            found.append((match[0], f"{'I' if index else 'B'}-{entity.type}" if entity else "O"))
    return found
