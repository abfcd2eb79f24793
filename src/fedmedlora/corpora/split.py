"""Splits by document, by patient where known, with copies of one note on one side.

Notes of one ``group`` stay together, notes with equal text stay together, and so do the groups that
such copies tie (union-find). The result depends on notes, fractions and seed, not on the order of input.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from fedmedlora.corpora.note import Note

_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")

Parts = dict[str, tuple[Note, ...]]


@dataclass(frozen=True, slots=True)
class SplitReport:
    """``duplicates``: ids of notes with equal text, one tuple per text. ``num_blocks``: what was dealt out.

    ``moved``: ids that a split by given parts had to put elsewhere, to keep copies together.
    """

    num_notes: dict[str, int]
    num_blocks: int
    duplicates: tuple[tuple[str, ...], ...]
    moved: tuple[str, ...] = ()


def split(notes: Iterable[Note], fractions: Mapping[str, float], seed: int) -> tuple[Parts, SplitReport]:
    """Deal notes out to named parts, such as ``{"train": 0.8, "test": 0.2}``; sorted by id in each.

    Blocks (notes that must stay together) are dealt in seeded order, each to the part that is furthest
    below its share of notes; not large to small, which would put every large block into the largest
    part. Raises ``ValueError`` when the fractions do not sum to 1, an id occurs twice, or a part would be
    empty.
    """
    _check_fractions(fractions)
    blocks, duplicates = blocks_of(notes)
    random.Random(seed).shuffle(blocks)
    room = {name: fraction * sum(map(len, blocks)) for name, fraction in fractions.items()}
    dealt: dict[str, list[Note]] = {name: [] for name in fractions}
    for block in blocks:
        name = max(room, key=lambda n: room[n])
        dealt[name].extend(block)
        room[name] -= len(block)
    for name, part in dealt.items():
        if not part:
            raise ValueError(
                f"part {name!r} would be empty: {_how_many(blocks)} too few for its share of "
                f"{fractions[name]}; give it a larger one (--parts), or more notes"
            )
    return _finish(dealt, len(blocks), duplicates, ())


def _how_many(blocks: list[list[Note]]) -> str:
    num_notes = sum(map(len, blocks))
    notes = f"{num_notes} {'note is' if num_notes == 1 else 'notes are'}"
    if len(blocks) == num_notes:
        return notes
    return (
        f"copies of one text and notes of one patient go to one part, so the {num_notes} notes are dealt out "
        f"as {len(blocks)}, which {'is' if len(blocks) == 1 else 'are'}"
    )


def split_by_part(notes: Iterable[Note]) -> tuple[Parts, SplitReport]:
    """The parts that the corpus itself comes in (``meta["part"]``), except that blocks are not torn.

    A block whose notes come from several parts goes to the one that most of them are from; at a tie, to
    the one with more notes over all. Raises ``ValueError`` when a note has no part.
    """
    notes = tuple(notes)
    for note in notes:
        if not note.meta.get("part"):
            raise ValueError(f"note {note.id!r} has no meta 'part'; split by fractions instead")
    blocks, duplicates = blocks_of(notes)
    sizes = Counter(note.meta["part"] for note in notes)
    dealt: dict[str, list[Note]] = {name: [] for name in sorted(sizes)}
    moved: list[str] = []
    for block in blocks:
        votes = Counter(note.meta["part"] for note in block)
        name = max(sorted(votes), key=lambda n: (votes[n], sizes[n]))
        dealt[name].extend(block)
        moved.extend(note.id for note in block if note.meta["part"] != name)
    return _finish(dealt, len(blocks), duplicates, tuple(sorted(moved)))


def parse_parts(text: str) -> dict[str, float]:
    """``"train=0.8,test=0.2"`` as fractions by name. Raises ``ValueError``; names become file names."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.strip().partition("=")
        if not _NAME.fullmatch(name) or name in found:
            raise ValueError(f"part {name!r}: name each part once, with letters, digits, - and _")
        try:
            found[name] = float(share)
        except ValueError:
            raise ValueError(f"part {part.strip()!r}: write NAME=SHARE, such as train=0.8") from None
    return found


def _check_fractions(fractions: Mapping[str, float]) -> None:
    total = sum(fractions.values())
    if not fractions or any(not 0 < f <= 1 for f in fractions.values()) or abs(total - 1) > 1e-6:
        raise ValueError(
            f"fractions are {dict(fractions)}; each must be above 0, and together they must be 1"
        )


def blocks_of(notes: Iterable[Note]) -> tuple[list[list[Note]], tuple[tuple[str, ...], ...]]:
    """Notes that must stay together, in an order that depends on their ids only; and the copies."""
    ordered = sorted(notes, key=lambda n: n.id)
    for first, second in pairwise(ordered):
        if first.id == second.id:
            raise ValueError(f"note id {first.id!r} occurs twice; ids must be unique")
    by_group: dict[str, list[int]] = defaultdict(list)
    by_text: dict[str, list[int]] = defaultdict(list)
    for index, note in enumerate(ordered):
        if note.group:
            by_group[note.group].append(index)
        if note.text.strip():  # notes without text are no copies of each other
            by_text[note.text_hash()].append(index)
    root = list(range(len(ordered)))

    def find(index: int) -> int:
        while root[index] != index:
            root[index] = root[root[index]]
            index = root[index]
        return index

    for tied in (*by_group.values(), *by_text.values()):
        for index in tied[1:]:
            a, b = sorted((find(tied[0]), find(index)))
            root[b] = a
    blocks: dict[int, list[Note]] = defaultdict(list)
    for index, note in enumerate(ordered):
        blocks[find(index)].append(note)
    copies = tuple(tuple(ordered[i].id for i in tied) for tied in by_text.values() if len(tied) > 1)
    return list(blocks.values()), copies


def _finish(
    dealt: dict[str, list[Note]],
    num_blocks: int,
    duplicates: tuple[tuple[str, ...], ...],
    moved: tuple[str, ...],
) -> tuple[Parts, SplitReport]:
    parts = {name: tuple(sorted(part, key=lambda n: n.id)) for name, part in dealt.items()}
    num_notes = {name: len(part) for name, part in parts.items()}
    return parts, SplitReport(num_notes, num_blocks, duplicates, moved)
