"""An ``Example``: one instruction, one input, and the target as strings of an output form.

Everything here is text. Token ids appear in ``model/`` only.
"""

from __future__ import annotations

from dataclasses import dataclass

PLAIN = "plain"  # the form of an answer in words of its own: nothing is copied, nothing has to be found


@dataclass(frozen=True, slots=True)
class Piece:
    """An atom of copied text. It is a function of the text alone, never of gold offsets.

    ``start``, ``end``: characters in the *note*. ``form``: how the piece is written in prompts and
    targets; it differs from the text only where a bare ``<`` or ``&`` must be escaped, so that no
    form begins with ``<`` and a tag can always be told from copied text. At most one leading space
    belongs to the piece (" severe"), so a tag that opens before it stands before the space.
    """

    start: int
    end: int
    form: str

    @property
    def is_mark(self) -> bool:
        """Whether it stands for no text of the note: a mark around a given entity, copied like the rest."""
        return self.start == self.end

    @property
    def is_solid(self) -> bool:
        """Whether a mention may begin or end with it: neither white space nor a mark."""
        return self.start < self.end and not self.form.isspace()


@dataclass(frozen=True, slots=True)
class Example:
    """One sentence under one task.

    ``instruction`` is the part of the prompt that many examples share, word for word.
    ``input``: strings that, joined, are the example's own part of the prompt; each is tokenized by
    itself so that the copied text has the same tokens in input and output.
    ``pieces``: the sentence with its marks, which tells where in the note a mention is.
    ``labels``: what is asked for. ``form``: how the answer is written, a name of ``tasks/form.py``, or
    ``PLAIN``.
    ``target``: strings that, joined, are the answer; empty when the gold is unknown (at extraction). In form
    "markup", which copies the pieces, each is either the form of the next piece or a tag (``"<problem>"``,
    ``"</problem>"``).
    """

    id: str  # unique within its note set: "note/segment" or "note/segment/entity"
    note_id: str
    task: str  # "ner", "modifiers" or "instruction"
    instruction: str
    input: tuple[str, ...]
    pieces: tuple[Piece, ...]
    labels: tuple[str, ...]
    target: tuple[str, ...]
    entity_id: str = ""  # the entity whose modifiers are asked for (scope "entity")
    form: str = "markup"

    @property
    def place(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """What examples share that have one reading: where they stand, what is shown, what is asked for.

        Offsets are the note's own, so the same sentence elsewhere has another.
        """
        return f"{self.note_id}/{self.pieces[0].start}/{self.task}", self.input, self.labels
