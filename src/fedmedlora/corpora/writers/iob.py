"""Notes to IOB2, the inverse of ``formats/iob.py``: one file, ``TOKEN<TAB>TAG`` per line.

A note begins with ``-DOCSTART-<TAB>ID<TAB>O``. Its tokens are runs of letters and digits, and single other
characters, cut wherever an entity begins or ends; the spaces between them are lost, as in all such files. The
format holds entities that neither overlap nor have gaps: of overlapping ones the longest is written (of equal
ones the first), and what is left out is counted, modifiers and links too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from fedmedlora.corpora.formats.iob import DOCUMENT, RESERVED
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
        if note.id in RESERVED:
            raise ValueError(f"note id {note.id!r}: stands for nothing in a line of IOB; rename the note")
        for what, words in (("note id", [note.id]), ("type", [e.type for e in note.entities])):
            for word in words:
                if not word or re.search(r"\s", word):
                    raise ValueError(
                        f"note {note.id!r}: the {what} {word!r} has white space; IOB cannot hold it"
                    )
        lines += [f"{DOCUMENT}\t{note.id}\tO", ""]
        skipped["modifier: IOB holds entities only"] += len(note.modifiers)
        skipped["link: IOB holds entities only"] += len(note.links)
        owners, kept = _flat(note, skipped)
        for start, end in sentences(note.text, [(e.start, e.end) for e in kept]):
            lines += [f"{token}\t{tag}" for token, tag in _tagged(note.text, start, end, owners, kept)]
            lines.append("")
    write_atomically(out, "\n".join([*lines, ""] if lines else [""]).encode("utf-8"))
    return +skipped


def _flat(note: Note, skipped: Counter[str]) -> tuple[list[int], list[Entity]]:
    """Whose each character is (0: nobody's; 1: that of the first entity kept), and the entities kept."""
    owners = [0] * len(note.text)
    kept: list[Entity] = []
    for entity in sorted(note.entities, key=lambda e: e.start - e.end):
        if len(entity.span) > 1:
            skipped["entity with a gap: IOB has none"] += 1
        elif not note.text[entity.start : entity.end].strip():
            skipped["entity of white space"] += 1
        elif any(owners[entity.start : entity.end]):
            skipped["entity that overlaps a longer one: IOB has none"] += 1
        else:
            kept.append(entity)
            owners[entity.start : entity.end] = [len(kept)] * (entity.end - entity.start)
    return owners, kept


def _tagged(
    text: str, start: int, end: int, owners: list[int], kept: list[Entity]
) -> Iterator[tuple[str, str]]:
    for owner, run in groupby(range(start, end), key=lambda at: owners[at]):
        at = list(run)
        for index, match in enumerate(_TOKEN.finditer(text, at[0], at[-1] + 1)):
            yield match[0], f"{'I' if index else 'B'}-{kept[owner - 1].type}" if owner else "O"
