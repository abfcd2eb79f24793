"""Notes as a site would have them that annotates less: fewer entity types, fewer modifiers, none at all.

What goes is dropped *and* no longer said to be annotated (``Note.annotates``), so nothing that reads the
notes takes it for absent.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import replace

from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.schema import Schema


def restrict(
    notes: Sequence[Note],
    schema: Schema,
    *,
    entities: Collection[str] | None = None,
    modifiers: Collection[str] | None = None,
) -> tuple[Note, ...]:
    """``notes`` that annotate only these entity types and modifiers; None: all that they do.

    No entity types at all means modifiers alone: entities stay, as given ones to ask about, but are not
    annotated any more. Raises ``ValueError`` for a name that the schema does not have.
    """
    for kind, names, known in (
        ("entity type", entities, schema.entities),
        ("modifier", modifiers, schema.modifiers),
    ):
        for name in names or ():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ValueError(f"unknown {kind} {name[:80]!r}{hint}; the schema has {', '.join(known)}")
    return tuple(_restricted(note, entities, modifiers) for note in notes)


def _restricted(note: Note, entities: Collection[str] | None, modifiers: Collection[str] | None) -> Note:
    told = note.annotates
    pairs = {pair: pair.split(".", 1) for pair in told.pairs}
    annotates = Annotates(
        told.entities if entities is None else told.entities & frozenset(entities),
        frozenset(
            pair
            for pair, (entity, modifier) in pairs.items()
            if (not entities or entity in entities) and (modifiers is None or modifier in modifiers)
        ),
    )
    kept = {e.id: e for e in note.entities if not entities or e.type in entities}
    types = {m.id: m.type for m in note.modifiers}
    links = tuple(
        link
        for link in note.links
        if link.entity in kept and f"{kept[link.entity].type}.{types[link.modifier]}" in annotates.pairs
    )
    linked = {link.modifier for link in links}
    before = {link.modifier for link in note.links}
    wanted = annotates.modifiers()
    return replace(
        note,
        entities=tuple(kept.values()),
        # A modifier that never had a link stays while its type is annotated; one that lost its last goes.
        modifiers=tuple(
            m for m in note.modifiers if m.id in linked or (m.id not in before and m.type in wanted)
        ),
        links=links,
        annotates=annotates,
    )
