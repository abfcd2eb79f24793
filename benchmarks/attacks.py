"""What a bad site may do to the adapter that it sends, and to the labels that it trains on. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fedmedlora.aggregation.products import layout
from fedmedlora.corpora.note import Note
from fedmedlora.exchange.adapter import Adapter


def scaled(current: Adapter, trained: Adapter, factor: float) -> Adapter:
    """An adapter whose products are those of ``current`` plus ``factor`` times what training changed.

    ``B_0 A_0 + factor * (B A - B_0 A_0)`` has twice the rank. It is put into the rank over the trained A, by
    the B that is best in least squares: A hardly turns in a round, so little is lost, and in the mean of the
    factors, too, it does what it should. -1 flips the sign. Arrays that are no factors are moved as they are.
    """
    pairs, others = layout(current.shapes())
    found = {}
    for pair in pairs:
        a0, b0 = (current.arrays[name].astype(np.float64) for name in (pair.a, pair.b))
        a, b = (trained.arrays[name].astype(np.float64) for name in (pair.a, pair.b))
        found[pair.a] = trained.arrays[pair.a]
        found[pair.b] = (factor * b + (1.0 - factor) * b0 @ (a0 @ np.linalg.pinv(a))).astype(np.float32)
    for name in others:
        before = current.arrays[name]
        found[name] = (before + np.float32(factor) * (trained.arrays[name] - before)).astype(np.float32)
    return Adapter(found)


def flipped(notes: Sequence[Note]) -> tuple[Note, ...]:
    """``notes`` whose entities all have a wrong type: of the types that a note annotates, the next one.

    Modifiers and links go, for what a modifier may describe depends on the type.
    """
    return tuple(_flipped(note) for note in notes)


def _flipped(note: Note) -> Note:
    types = sorted(note.annotates.entities)
    following = dict(zip(types, [*types[1:], *types[:1]], strict=True))
    entities = tuple(replace(one, type=following.get(one.type, one.type)) for one in note.entities)
    return replace(note, entities=entities, modifiers=(), links=())
