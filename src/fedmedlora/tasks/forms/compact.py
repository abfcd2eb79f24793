"""Form "compact": markup in short. A letter opens a mention and one sign closes it: ``<p fever</``.

The same answers as form "markup" and the same decoder, with about half the tokens of its tags: what is open
is known, so that a closing tag need not say it. The letter is the first one of the label that no earlier
label has, and stands in the prompt beside it.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from functools import cache

from fedmedlora.corpora.note import Entity
from fedmedlora.tasks import markup
from fedmedlora.tasks.copying import close_tag, open_tag
from fedmedlora.tasks.example import Example, Piece
from fedmedlora.tasks.form import ReadBy, Reading
from fedmedlora.tasks.forms.markup import grammar, limit, written
from fedmedlora.tasks.recovery import NOT_IN_SENTENCE

__all__ = ["READ_BY", "grammar", "limit", "read", "render", "tag_texts", "written"]

READ_BY: ReadBy = "copying"

CLOSE = "</"


def render(
    pieces: Sequence[Piece], entities: Sequence[Entity], labels: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[Entity, str], ...]]:
    """As ``markup.render``, with the tags in short."""
    target, unplaced = markup.render(pieces, entities, labels)
    texts = tag_texts(tuple(labels))
    return tuple(texts.get(piece, piece) for piece in target), unplaced


def read(example: Example, text: str) -> Reading:
    """As form "markup" does; a closing sign closes what was opened last."""
    parsed = markup.parse(example.pieces, text, example.labels, tag_texts(example.labels))
    return Reading(parsed.mentions, parsed.complete, parsed.problems.count(NOT_IN_SENTENCE))


@cache
def tag_texts(labels: tuple[str, ...]) -> Mapping[str, str]:
    """How each tag is written. All of one length, so that none begins like another one.

    Raises ``ValueError`` for more labels than there are letters.
    """
    if len(labels) > len(string.ascii_letters):
        raise ValueError(
            f"{len(labels)} labels are too many for form compact, which has a letter for each of them "
            f"({len(string.ascii_letters)}); ask for fewer at a time, or use another form"
        )
    found: dict[str, str] = {}
    for label in labels:
        own = (letter for letter in (*label.lower(), *string.ascii_letters) if letter in string.ascii_letters)
        found[label] = next(letter for letter in own if letter not in found.values())
    opening = {open_tag(label): f"<{letter}" for label, letter in found.items()}
    return opening | {close_tag(label): CLOSE for label in labels}
