"""Counts of what a set of notes holds."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fedmedlora.corpora.jsonl import NoteSet
from fedmedlora.corpora.note import union
from fedmedlora.corpora.schema import CLINICAL, Schema


def stats(notes: NoteSet, schema: Schema = CLINICAL) -> dict[str, Any]:
    """``num_notes``; ``entities`` and ``modifiers`` per type; ``links`` per pair; ``skipped`` per reason.

    Types of the schema come first, in its order and with their zeros; types beyond it follow.
    """
    entities: Counter[str] = Counter()
    modifiers: Counter[str] = Counter()
    links: Counter[str] = Counter()
    for note in notes.notes:
        entities.update(e.type for e in note.entities)
        modifiers.update(m.type for m in note.modifiers)
        types = {m.id: m.type for m in (*note.entities, *note.modifiers)}
        links.update(f"{types[link.entity]}.{types[link.modifier]}" for link in note.links)
    return {
        "num_notes": len(notes.notes),
        "entities": _ordered(entities, schema.entities),
        "modifiers": _ordered(modifiers, schema.modifiers),
        "links": _ordered(links, schema.pair_names()),
        "skipped": dict(sorted(notes.header.get("skipped", {}).items())),
    }


def never_seen(notes: NoteSet) -> list[str]:
    """Types and pairs that the source is said to annotate and that none of ``notes`` holds."""
    found = stats(notes)
    claimed = union(note.annotates for note in notes.notes)
    unseen = [kind for kind in sorted(claimed.entities) if not found["entities"].get(kind)]
    return unseen + [pair for pair in sorted(claimed.pairs) if not found["links"].get(pair)]


def _ordered(counts: Counter[str], first: tuple[str, ...]) -> dict[str, int]:
    return {name: counts[name] for name in (*first, *sorted(counts.keys() - set(first)))}
