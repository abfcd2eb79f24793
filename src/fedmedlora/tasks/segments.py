"""Which sentence holds which entity."""

from __future__ import annotations

from collections.abc import Sequence

from fedmedlora.corpora.note import Entity

Segment = tuple[int, int]  # (start, end), characters of the note


def by_holding_segment(
    entities: Sequence[Entity], segments: Sequence[Segment]
) -> tuple[list[list[Entity]], list[Entity]]:
    """Entities by the index of the first segment that holds all of them, and those held by none."""
    held: list[list[Entity]] = [[] for _ in segments]
    outside: list[Entity] = []
    for entity in entities:
        index = next((i for i, (s, e) in enumerate(segments) if s <= entity.start and entity.end <= e), None)
        (outside if index is None else held[index]).append(entity)
    return held, outside
