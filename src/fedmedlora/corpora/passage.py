"""A passage of a note: some sentences in a row, with what is annotated in them.

Scores are compared note by note, so sixty sentences out of one long note say less than six each out of ten.
"""

from __future__ import annotations

from dataclasses import replace

from fedmedlora.corpora.draw import seeded
from fedmedlora.corpora.note import Entity, Note
from fedmedlora.corpora.sentences import sentences


def passage(note: Note, num_sentences: int, *, seed: int, name: str) -> Note:
    """``num_sentences`` of ``note`` in a row, or ``note`` itself where it has no more than that.

    It is drawn at random by ``seed``, ``name`` and the note's id. No annotation is cut: sentences that one
    reaches across count as one. A link stays if both its ends do; a modifier whose pairs are not
    annotated goes with its links. Raises ``ValueError`` for a number below 1.
    """
    if num_sentences < 1:
        raise ValueError(f"a passage of {num_sentences} sentences; it needs at least 1")
    marked = (*note.entities, *note.modifiers)
    found = sentences(note.text, keep=[(one.start, one.end) for one in marked])
    if len(found) <= num_sentences:
        return note
    first = seeded(f"{seed}/{name}/{note.id}/passage").randint(0, len(found) - num_sentences)
    start, end = found[first][0], found[first + num_sentences - 1][1]
    entities = tuple(_moved(one, start) for one in note.entities if start <= one.start and one.end <= end)
    inside = tuple(one for one in note.modifiers if start <= one.start and one.end <= end)
    kept = {one.id for one in entities}, {one.id for one in inside}
    links = tuple(link for link in note.links if link.entity in kept[0] and link.modifier in kept[1])
    # Without its links, a modifier of what is not annotated would look like one that nobody has linked.
    bare = _out_of_scope(note) - {link.modifier for link in links}
    return replace(
        note,
        text=note.text[start:end],
        entities=entities,
        modifiers=tuple(_moved(one, start) for one in inside if one.id not in bare),
        links=links,
    )


def _out_of_scope(note: Note) -> set[str]:
    """Ids of modifiers that have links, none of them of a pair that is annotated: they are not scored."""
    entities = {one.id: one.type for one in note.entities}
    modifiers = {one.id: one.type for one in note.modifiers}
    scored = {
        link.modifier
        for link in note.links
        if f"{entities[link.entity]}.{modifiers[link.modifier]}" in note.annotates.pairs
    }
    return {link.modifier for link in note.links} - scored


def _moved(one: Entity, by: int) -> Entity:
    return replace(one, span=tuple((start - by, end - by) for start, end in one.span))
