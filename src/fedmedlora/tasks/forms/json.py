"""Form "json": a list of the mentions, in the order in which they stand in the sentence.

    [{"type":"negation","text":"Denies"},{"type":"severity","text":"severe"}]

``text`` is the mention letter for letter. Where the sentence holds that text several times, ``nth`` says
which place is meant (``tasks/grounding.py``); without it the first. Nested and crossing spans can be said,
and those that end within a word; discontinuous ones cannot. Nothing is copied, so an answer is as long as
what there is to find: of a sentence without mentions it is two characters.

Reading forgives what language models do to JSON (``tasks/loose_json.py``). A text that the sentence does not
hold is counted and dropped. The same text said again without a number means its next place.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fedmedlora.corpora.note import Entity
from fedmedlora.tasks.example import Example, Piece
from fedmedlora.tasks.form import ReadBy, Reading
from fedmedlora.tasks.grounding import Sentence, sentence
from fedmedlora.tasks.loose_json import read_items
from fedmedlora.tasks.markup import Mention
from fedmedlora.tasks.pieces import unescape

READ_BY: ReadBy = "generating"

# A mention of one token takes about a dozen, and a list of symptoms holds one for every other token.
ALLOWANCE_TOKENS = 48
PER_TOKEN = 6


def written(pieces: Sequence[Piece]) -> tuple[str, ...]:
    """The text as it is, with the marks of given entities."""
    return tuple(unescape(piece.form) for piece in pieces)


def render(
    pieces: Sequence[Piece], entities: Sequence[Entity], labels: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[Entity, str], ...]]:
    """One JSON text, and ``(entity, reason)`` for each entity that is not in it.

    Mentions in order of their start, then longer first, then by ``labels``.
    """
    here = sentence(pieces)
    rank = {label: i for i, label in enumerate(labels)}
    unplaced: list[tuple[Entity, str]] = []
    placed: dict[Mention, Entity] = {}
    for entity in entities:
        mention = Mention(entity.type, entity.start, entity.end)
        reason = _misfit(entity, here, rank) or ("duplicate" if mention in placed else "")
        if reason:
            unplaced.append((entity, reason))
        else:
            placed[mention] = entity
    records = []
    for label, start, end in sorted(placed, key=lambda m: (m.start, -m.end, rank[m.label])):
        surface = here.surface(start, end)
        number = here.places(surface).index(start) + 1
        records.append({"type": label, "text": surface} | ({"nth": number} if number > 1 else {}))
    text = json.dumps(records, ensure_ascii=False, separators=(",", ":"))
    return (text.replace("\x7f", "\\u007f"),), tuple(unplaced)


def read(example: Example, text: str) -> Reading:
    """The mentions that ``text`` names, those of labels that were not asked for left out."""
    items, complete = read_items(text)
    here = sentence(example.pieces)
    places: dict[str, tuple[int, ...]] = {}
    said: Counter[tuple[str, str]] = Counter()
    found: dict[Mention, None] = {}
    num_ungrounded = 0
    for item in items:
        if item.type not in example.labels:
            complete = False
            continue
        surface = item.text.strip()
        at = places.get(surface)
        if at is None:
            at = places[surface] = here.places(surface)
        index = said[item.type, surface] if item.nth is None else item.nth - 1
        said[item.type, surface] += item.nth is None
        if not at or (item.nth is not None and index >= len(at)):
            num_ungrounded += 1
        elif index < len(at):  # else it was said more often than it is there: once more is no mention
            found[Mention(item.type, at[index], at[index] + len(surface))] = None
    return Reading(tuple(found), complete, num_ungrounded)


def limit(num_tokens: int) -> int:
    """Enough for a sentence that is one long list of mentions."""
    return ALLOWANCE_TOKENS + PER_TOKEN * num_tokens


def grammar(labels: Sequence[str]) -> dict[str, Any]:
    """What ``render`` writes, with any text for a mention."""
    return {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "type": {"enum": list(labels)},
                "text": {"type": "string", "minLength": 1},
                "nth": {"type": "integer", "minimum": 2},
            },
            "required": ["type", "text"],
            "additionalProperties": False,
        },
    }


def _misfit(entity: Entity, here: Sentence, rank: dict[str, int]) -> str:
    if entity.type not in rank:
        return "not asked for"
    if len(entity.span) > 1:
        return "discontinuous"
    if entity.start >= entity.end:
        return "empty"
    if entity.start < here.start or entity.end > here.end:
        return "outside the sentence"
    surface = here.surface(entity.start, entity.end)
    return "begins or ends with white space" if surface != surface.strip() else ""


def tag_texts(labels: tuple[str, ...]) -> Mapping[str, str]:
    """None of its own."""
    return {}
