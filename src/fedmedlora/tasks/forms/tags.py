"""Form "tags": a word for every piece of the sentence, all of them decided at once. Nothing is generated.

Behind the instruction the sentence is read once, every token of it seeing all others, as an encoder reads; at
the end of each piece its label is the likeliest of a few words (``extraction/tagging.py``). One pass for an
answer, however many mentions it has. That a causal model labels tokens better without its causal mask is Li
et al., "Label Supervised LLaMA Finetuning", https://arxiv.org/abs/2310.01208; here the instruction stays
causal, so that it is still read once for all sentences, and the labels are words of the vocabulary instead of
a new layer.

As text, for people and tests, an answer is the words in the pieces' order (``tasks/tagging.py``).

Flat: a mention inside another one cannot be said, nor can crossing and discontinuous ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedmedlora.corpora.note import Entity
from fedmedlora.tasks import tagging
from fedmedlora.tasks.example import Example, Piece
from fedmedlora.tasks.form import ReadBy, Reading

READ_BY: ReadBy = "tagging"

PER_TOKEN = 4  # a word may take some tokens, and a token of the sentence has one word at most


def written(pieces: Sequence[Piece]) -> tuple[str, ...]:
    """The pieces' forms."""
    return tuple(piece.form for piece in pieces)


def render(
    pieces: Sequence[Piece], entities: Sequence[Entity], labels: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[Entity, str], ...]]:
    """The words, each behind a space, and ``(entity, reason)`` for each entity that they do not hold."""
    words, unplaced = tagging.render(pieces, entities, labels)
    return tuple(f" {word}" for word in words), unplaced


def read(example: Example, text: str) -> Reading:
    """The mentions of a text of such words; of what is no word of this example, none."""
    num = sum(piece.is_solid for piece in example.pieces)
    known = tagging.options(example.labels)
    found = text.split(maxsplit=num)
    words = [word if word in known else tagging.NONE for word in found[:num]]
    words += [tagging.NONE] * (num - len(words))
    held = sum(after - first for first, after in tagging.runs(words))
    complete = words == found and held == num - words.count(tagging.NONE)
    return Reading(tagging.place(example.pieces, words), complete, 0)


def limit(num_tokens: int) -> int:
    """Enough for the words, were they written."""
    return 1 + PER_TOKEN * num_tokens


def grammar(labels: Sequence[str]) -> dict[str, Any] | None:
    """None: the words are decided, each between all of them."""
    return None


def tag_texts(labels: tuple[str, ...]) -> Mapping[str, str]:
    """None of its own."""
    return {}
