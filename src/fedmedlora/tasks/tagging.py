"""A word for every piece of a sentence: mentions <-> words. Flat: no mention lies inside another.

A solid piece (``Piece.is_solid``) has the label of the mention that begins with it, ``SAME`` inside a
mention, and ``NONE`` outside; white space and marks have no word and belong to the mention that goes on
behind them. That is the IOB scheme of Ramshaw and Marcus, "Text Chunking using Transformation-Based
Learning", https://arxiv.org/abs/cmp-lg/9505040, with one inside tag for all types: a mention is of the type
it began with, so a sequence cannot contradict itself but in one way, ``SAME`` where no mention is open.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedmedlora.corpora.note import Entity
from fedmedlora.tasks.example import Piece
from fedmedlora.tasks.markup import Mention, fitted
from fedmedlora.tasks.pieces import has_leading_space

NONE, SAME = "-", "+"


def options(labels: Sequence[str]) -> tuple[str, ...]:
    """The words between which every piece is decided."""
    return (NONE, SAME, *labels)


def render(
    pieces: Sequence[Piece], entities: Sequence[Entity], labels: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[Entity, str], ...]]:
    """The word of each solid piece, and ``(entity, reason)`` for each entity that they do not hold.

    Of two that overlap, the one that starts first stays; at one start the longer, then the earlier label.
    """
    fitting, starts, ends, unplaced = fitted(pieces, entities, labels)
    words = {i: NONE for i, piece in enumerate(pieces) if piece.is_solid}
    kept: list[Entity] = []
    for entity in fitting:
        outer = kept[-1] if kept else None
        if outer is None or entity.start >= outer.end:
            kept.append(entity)
            inside = [i for i in range(starts[entity.start], ends[entity.end]) if i in words]
            words |= dict.fromkeys(inside, SAME)
            words[inside[0]] = entity.type
        elif (entity.type, entity.span) == (outer.type, outer.span):
            unplaced.append((entity, "duplicate"))
        else:
            unplaced.append((entity, "nested" if entity.end <= outer.end else "crossing"))
    return tuple(words.values()), tuple(unplaced)


def runs(words: Sequence[str]) -> list[tuple[int, int]]:
    """``[first, after)`` of each mention in ``words``; a ``SAME`` with no mention before it is none."""
    found: list[tuple[int, int]] = []
    for i, word in enumerate(words):
        if word == SAME and found and found[-1][1] == i:
            found[-1] = (found[-1][0], i + 1)
        elif word not in (NONE, SAME):
            found.append((i, i + 1))
    return found


def place(pieces: Sequence[Piece], words: Sequence[str]) -> tuple[Mention, ...]:
    """The mentions of ``words``, one for each solid piece, in their order."""
    solid = [piece for piece in pieces if piece.is_solid]
    found = []
    for first, after in runs(words):
        start = solid[first].start + has_leading_space(solid[first])
        found.append(Mention(words[first], start, solid[after - 1].end))
    return tuple(found)
