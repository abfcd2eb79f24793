"""Some notes out of many, drawn at random so that fewer are always among more."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from fedmedlora.corpora.note import Note


def seeded(words: str) -> random.Random:
    """A generator that ``words`` alone decide, the same in every process."""
    digest = hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def draw_notes(notes: Sequence[Note], num: int, *, seed: int, name: str) -> tuple[Note, ...]:
    """``num`` of ``notes``, in their order, drawn by ``seed`` and ``name``; the 5 are among the 10.

    Of several copies of one text only one is ever drawn, for it would count twice. Raises ``ValueError`` for
    more notes than there are.
    """
    distinct = different(notes)
    if num > len(distinct):
        raise ValueError(f"{num} notes are asked for, and there are {len(distinct)} different ones")
    seeded(f"{seed}/{name}/draw").shuffle(distinct)
    chosen = {note.id for note in distinct[:num]}
    return tuple(note for note in notes if note.id in chosen)


def different(notes: Sequence[Note]) -> list[Note]:
    """``notes`` by id, of several copies of one text the first."""
    texts: set[str] = set()
    found = []
    for note in sorted(notes, key=lambda note: note.id):
        copy = note.text_hash() if note.text.strip() else note.id
        if copy not in texts:
            texts.add(copy)
            found.append(note)
    return found
