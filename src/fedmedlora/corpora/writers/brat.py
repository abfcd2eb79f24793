"""Notes to a folder of BRAT files, the inverse of ``formats/brat.py`` under the identity mapping.

T lines for entities and for modifiers, ``R hasAttr Arg1:<entity> Arg2:<modifier>`` for links.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from fedmedlora.corpora.jsonl import write_together
from fedmedlora.corpora.note import Note, surface
from fedmedlora.corpora.writers import left_out, refuse_without_text

RELATION = "hasAttr"
_MAX_BYTES = 180  # of a file's name without extension; file systems allow 255
_WHITE = re.compile(r"\s")


def write(notes: tuple[Note, ...], out: Path) -> Counter[str]:
    """Write ``notes`` into the folder ``out``; what BRAT does not hold, by reason. Raises ``ValueError``.

    A folder that holds files already is refused: old notes would stand among the new ones.
    """
    refuse_full(out)
    write_brat(notes, out)
    return left_out(notes, "group", "meta")


def refuse_full(out: Path) -> None:
    """Raise ``ValueError`` where ``out`` is a file, or a folder with something in it."""
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise ValueError(f"{out}: is there and not empty; name a new folder with --out")


def write_brat(notes: Iterable[Note], folder: Path | str) -> tuple[Path, ...]:
    """Write ``<name>.txt`` and ``<name>.ann`` per note into ``folder`` (made if absent).

    A note's id becomes its file's name; characters that a file name should not have are written as
    ``%XX`` (the loader reads them back), very long or colliding ids get a number or a hash. Returns the
    ``.txt`` paths in the notes' order. Raises ``ValueError`` for a note without its text and ``OSError``
    when the disk does not take all of them; none is left behind then.
    """
    notes = tuple(notes)
    refuse_without_text(notes, "BRAT")
    folder = Path(folder)
    if not notes:
        folder.mkdir(parents=True, exist_ok=True)
    paths = []
    files = {}
    for note, name in zip(notes, file_names([n.id for n in notes]), strict=True):
        paths.append(folder / f"{name}.txt")
        files[paths[-1]] = note.text.encode("utf-8")
        files[folder / f"{name}.ann"] = annotation(note).encode("utf-8")
    write_together(files)
    return tuple(paths)


def annotation(note: Note) -> str:
    """The ``.ann`` file of a note."""
    keys: dict[str, str] = {}
    lines = []
    for number, mention in enumerate((*note.entities, *note.modifiers), start=1):
        keys[mention.id] = f"T{number}"
        offsets = ";".join(f"{start} {end}" for start, end in mention.span)
        # As BRAT does: a line end inside a surface is written as a space, offset by offset.
        shown = _WHITE.sub(" ", surface(note.text, mention.span))
        lines.append(f"T{number}\t{mention.type} {offsets}\t{shown}\n")
    for number, link in enumerate(note.links, start=1):
        lines.append(f"R{number}\t{RELATION} Arg1:{keys[link.entity]} Arg2:{keys[link.modifier]}\n")
    return "".join(lines)


def file_names(ids: Iterable[str]) -> tuple[str, ...]:
    """A safe file name for each id: no separator, no leading dot, distinct also where case is ignored."""
    taken: set[str] = set()
    names = []
    for note_id in ids:
        plain = quote(note_id, safe=" ()+,=@[]")
        if plain.startswith("."):
            plain = f"%2E{plain[1:]}"
        if len(plain) > _MAX_BYTES:
            plain = f"{plain[:100].rstrip('%')}~{hashlib.sha256(note_id.encode()).hexdigest()[:16]}"
        name, number = plain or "note", 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}~{number}"
        taken.add(name.casefold())
        names.append(name)
    return tuple(names)
