"""Where a sentence holds a text: surface -> offsets in the note, and back.

For forms that name a mention by its text. What occurs several times is told apart by a number, from 1:
occurrences that begin and end with whole pieces come first, in their order, then the others ("pain" in
"painful pain" means the second word first). The numbering is a function of the text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedmedlora.tasks.example import Piece
from fedmedlora.tasks.pieces import has_leading_space, unescape


@dataclass(frozen=True, slots=True)
class Sentence:
    """``text`` begins at character ``start`` of the note. ``starts``, ``ends``: of its words, in the note."""

    text: str
    start: int
    starts: frozenset[int]
    ends: frozenset[int]

    @property
    def end(self) -> int:
        """One past its last character, in the note."""
        return self.start + len(self.text)

    def surface(self, start: int, end: int) -> str:
        """The text between two offsets of the note."""
        return self.text[start - self.start : end - self.start]

    def places(self, surface: str) -> tuple[int, ...]:
        """Offsets in the note at which ``surface`` begins, in the order of their numbers; empty for ""."""
        found = []
        at = self.text.find(surface) if surface else -1
        while at >= 0:
            found.append(self.start + at)
            at = self.text.find(surface, at + 1)
        whole = [a for a in found if a in self.starts and a + len(surface) in self.ends]
        others = set(found).difference(whole)
        return (*whole, *(a for a in found if a in others))


def sentence(pieces: Sequence[Piece]) -> Sentence:
    """The sentence that ``pieces`` were cut from; marks are no part of it."""
    words = [piece for piece in pieces if not piece.is_mark]
    return Sentence(
        text="".join(unescape(piece.form) for piece in words),
        start=words[0].start if words else 0,
        starts=frozenset(piece.start + has_leading_space(piece) for piece in words),
        ends=frozenset(piece.end for piece in words),
    )
