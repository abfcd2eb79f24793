"""Form "markup": the sentence itself with HTML-like tags in it (Li et al., arXiv:2601.22124).

Nested spans can be said, crossing and discontinuous ones cannot. ``tasks/markup.py`` writes and reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedmedlora.tasks import markup
from fedmedlora.tasks.example import Example, Piece
from fedmedlora.tasks.form import ReadBy, Reading
from fedmedlora.tasks.recovery import NOT_IN_SENTENCE

READ_BY: ReadBy = "copying"

# Tokens beyond the copied sentence that an answer may take, so that tags fit: some, and a share of it.
ALLOWANCE_TOKENS = 32
ALLOWANCE_SHARE = 0.5

render = markup.render


def written(pieces: Sequence[Piece]) -> tuple[str, ...]:
    """The pieces' forms: a bare ``<`` is escaped, as the output copies it."""
    return tuple(piece.form for piece in pieces)


def read(example: Example, text: str) -> Reading:
    """See ``markup.parse``; incomplete is whatever is not the sentence with well-formed tags."""
    parsed = markup.parse(example.pieces, text, example.labels)
    return Reading(parsed.mentions, parsed.complete, parsed.problems.count(NOT_IN_SENTENCE))


def limit(num_tokens: int) -> int:
    """The copied sentence, and an allowance for tags and the end token."""
    return num_tokens + ALLOWANCE_TOKENS + int(ALLOWANCE_SHARE * num_tokens)


def grammar(labels: Sequence[str]) -> dict[str, Any] | None:
    """None: the copy constraint depends on the sentence and has a decoder of its own."""
    return None


def tag_texts(labels: tuple[str, ...]) -> Mapping[str, str]:
    """None of its own."""
    return {}
