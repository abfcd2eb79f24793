"""A site's notes -> the examples it trains on, and what they cannot express."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fedmedlora.corpora.note import Note
from fedmedlora.corpora.schema import Schema
from fedmedlora.corpora.sentences import sentences
from fedmedlora.tasks import modifiers, ner
from fedmedlora.tasks.example import Example

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Examples per task, and annotations that no target holds, counted by ``"kind: reason"``."""

    ner: tuple[Example, ...]
    modifiers: tuple[Example, ...]
    not_expressible: dict[str, int]


def training_set(
    notes: Iterable[Note],
    schema: Schema,
    *,
    use_ner: bool = True,
    use_modifiers: bool = True,
    prompt_set: str = "study",
    scope: str = "entity",
) -> TrainingSet:
    """All examples of ``notes`` with their targets.

    Sentences that an entity would be cut by are joined, here only: what is predicted on is cut by the
    text alone.
    """
    found: dict[str, list[Example]] = {"ner": [], "modifiers": []}
    unplaced: Counter[str] = Counter()
    for note in notes:
        segments = sentences(note.text, keep=[(e.start, e.end) for e in note.entities])
        rendered = []
        if use_ner:
            rendered.append(ner.examples(note, segments, schema, prompt_set=prompt_set, with_gold=True))
        if use_modifiers:
            rendered.append(
                modifiers.examples(
                    note, note.entities, segments, schema, prompt_set=prompt_set, scope=scope, with_gold=True
                )
            )
        for part in rendered:
            for example in part.examples:
                found[example.task].append(example)
            unplaced.update(f"{u.kind}: {u.reason}" for u in part.unplaced)
    return TrainingSet(tuple(found["ner"]), tuple(found["modifiers"]), dict(sorted(unplaced.items())))


def sample_examples(
    ner_examples: Sequence[Example],
    modifier_examples: Sequence[Example],
    *,
    num: int,
    modifier_share: float | None,
    seed: int,
    name: str,
) -> tuple[Example, ...]:
    """At most ``num`` examples (0: all), ``modifier_share`` of them of the modifier task (None: as they are).

    Drawn at random by ``seed`` and ``name``; a task that has too few gives all it has.
    """
    pools = [
        _shuffled(ner_examples, seed, name, "ner"),
        _shuffled(modifier_examples, seed, name, "modifiers"),
    ]
    sizes = [len(pool) for pool in pools]
    total = sum(sizes)
    if not total:
        return ()
    share = modifier_share if modifier_share is not None and all(sizes) else sizes[1] / total
    num = min(num or total, total)
    num_modifiers = min(sizes[1], round(num * share))
    num_ner = min(sizes[0], num - num_modifiers)
    # What one task cannot fill, the other may: the share is a target, and no example is wasted for it.
    num_modifiers = min(sizes[1], num - num_ner)
    return (*pools[0][:num_ner], *pools[1][:num_modifiers])


def sample_sentences(examples: Sequence[Example], *, num: int, seed: int, name: str) -> tuple[Example, ...]:
    """All examples of ``num`` sentences (0: all) drawn at random by ``seed`` and ``name``, in their order."""
    if not num:
        return tuple(examples)
    found = list(dict.fromkeys(_sentence(example) for example in examples))
    chosen = set(_shuffled(found, seed, name, "sentences")[:num])
    return tuple(example for example in examples if _sentence(example) in chosen)


def sample_notes(notes: Sequence[Note], *, max_sentences: int, seed: int, name: str) -> tuple[Note, ...]:
    """Whole notes, drawn at random, until they hold ``max_sentences`` sentences (0: all notes).

    The note that reaches the number is the last one, however long it is: leaving it out for a shorter one
    would make long notes rarer in the sample than they are. Kept in their order.
    """
    if not max_sentences:
        return tuple(notes)
    chosen: set[str] = set()
    total = 0
    for note in _shuffled(notes, seed, name, "notes"):
        if total >= max_sentences:
            break
        chosen.add(note.id)
        total += len(sentences(note.text))
    return tuple(note for note in notes if note.id in chosen)


def _sentence(example: Example) -> tuple[str, int]:
    return example.note_id, example.pieces[0].start


def _shuffled(items: Sequence[T], seed: int, name: str, what: str) -> list[T]:
    digest = hashlib.sha256(f"{seed}/{name}/{what}".encode()).digest()
    order = list(items)
    random.Random(int.from_bytes(digest[:8], "big")).shuffle(order)
    return order
