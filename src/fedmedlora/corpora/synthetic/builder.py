"""Text that grows, with spans recorded as it is written: offsets are exact by construction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.corpora.synthetic.fill import Filled


@dataclass(slots=True)
class NoteBuilder:
    """Collects one note. What ``annotates`` leaves out stays in the text and is not recorded."""

    annotates: Annotates
    chunks: list[str] = field(default_factory=list)
    length: int = 0  # characters so far
    entities: list[Entity] = field(default_factory=list)
    modifiers: list[Entity] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)

    def add(self, text: str) -> tuple[int, int]:
        """Appends text; its ``[start, end)``."""
        start = self.length
        self.chunks.append(text)
        self.length += len(text)
        return start, self.length

    def add_sentence(self, filled: Sequence[Filled], case: Callable[[str], str]) -> None:
        """Appends a filled sentence, every stretch passed through ``case`` (which keeps lengths)."""
        ids: dict[str, tuple[str, str]] = {}  # key -> (entity id, entity type)
        pending: list[tuple[Filled, int, int]] = []
        for piece in filled:
            written = case(piece.text)
            assert len(written) == len(piece.text), "a change of case may not move offsets"
            start, end = self.add(written)
            if piece.key and piece.type in self.annotates.entities:
                entity_id = f"e{len(self.entities) + 1}"
                self.entities.append(Entity(entity_id, piece.type, ((start, end),)))
                ids[piece.key] = (entity_id, piece.type)
                if piece.part:
                    inside = Filled("", "bodyloc", targets=(piece.key,))
                    pending.append((inside, start, start + piece.part))
            elif piece.targets:
                pending.append((piece, start, end))
        for piece, start, end in pending:  # now that every target has its id
            self._add_modifier(piece, start, end, [ids[key] for key in piece.targets if key in ids])

    def _add_modifier(self, piece: Filled, start: int, end: int, targets: list[tuple[str, str]]) -> None:
        linked = [entity for entity, kind in targets if f"{kind}.{piece.type}" in self.annotates.pairs]
        if not linked:
            return
        modifier_id = f"m{len(self.modifiers) + 1}"
        self.modifiers.append(Entity(modifier_id, piece.type, ((start, end),)))
        self.links.extend(Link(entity, modifier_id) for entity in linked)

    def note(self, note_id: str, group: str, meta: dict[str, str]) -> Note:
        """The finished note."""
        return Note(
            id=note_id,
            text="".join(self.chunks),
            entities=tuple(self.entities),
            modifiers=tuple(self.modifiers),
            links=tuple(self.links),
            annotates=self.annotates,
            group=group,
            meta=meta,
        )
