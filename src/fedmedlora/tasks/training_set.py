"""A site's notes -> the examples it trains on, and what they cannot express."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fedmedlora.corpora.draw import seeded
from fedmedlora.corpora.instructions import is_record
from fedmedlora.corpora.note import Note
from fedmedlora.corpora.passage import passage
from fedmedlora.corpora.schema import Schema
from fedmedlora.corpora.sentences import sentences
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.instruction import NAME, instruction_examples, is_instruction
from fedmedlora.tasks.task import askers, finders, load_task

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Examples by task, and annotations that no target holds, counted by ``"kind: reason"``."""

    examples: dict[str, tuple[Example, ...]]
    not_expressible: dict[str, int]


def training_set(
    notes: Iterable[Note],
    schema: Schema,
    *,
    tasks: Sequence[str] = ("ner", "modifiers"),
    prompt_set: str = "study",
    scope: str = "entity",
    form: str = "markup",
    as_asked: bool = False,
) -> TrainingSet:
    """All examples of ``notes`` with their targets, under ``tasks`` by name.

    Sentences that an entity would be cut by are joined, so that it can be trained on. ``as_asked``: only
    where entities are given, as at prediction: what finds entities sees sentences cut by the text alone.
    """
    if is_instruction(tasks):
        return TrainingSet({NAME: instruction_examples(notes)}, {})
    asked = (*finders(tasks), *askers(tasks))
    found: dict[str, list[Example]] = {name: [] for name in asked}
    unplaced: Counter[str] = Counter()
    for note in notes:
        joined = sentences(note.text, keep=[(e.start, e.end) for e in note.entities])
        for name in asked:
            task = load_task(name)
            segments = sentences(note.text) if as_asked and not task.NEEDS_ENTITIES else joined
            part = task.examples(
                note, segments, schema, prompt_set=prompt_set, scope=scope, form=form, with_gold=True
            )
            found[name] += part.examples
            unplaced.update(f"{u.kind}: {u.reason}" for u in part.unplaced)
    return TrainingSet({name: tuple(of) for name, of in found.items()}, dict(sorted(unplaced.items())))


def sample_examples(
    examples: Mapping[str, Sequence[Example]],
    *,
    num: int,
    modifier_share: float | None,
    seed: int,
    name: str,
) -> tuple[Example, ...]:
    """At most ``num`` examples (0: all) out of ``examples`` by task.

    ``modifier_share`` of them are of tasks that ask about given entities (None: as they are). Drawn at
    random by ``seed`` and ``name``; a side that has too few gives all it has.
    """
    pools = []
    asking = askers(tuple(examples))
    for side in (tuple(name for name in examples if name not in asking), asking):
        pools.append(_shuffled([e for task in side for e in examples[task]], seed, name, "+".join(side)))
    sizes = [len(pool) for pool in pools]
    total = sum(sizes)
    if not total:
        return ()
    share = modifier_share if modifier_share is not None and all(sizes) else sizes[1] / total
    num = min(num or total, total)
    num_asking = min(sizes[1], round(num * share))
    num_finding = min(sizes[0], num - num_asking)
    # What one side cannot fill, the other may: the share is a target, and no example is wasted for it.
    num_asking = min(sizes[1], num - num_finding)
    return (*pools[0][:num_finding], *pools[1][:num_asking])


def sample_sentences(examples: Sequence[Example], *, num: int, seed: int, name: str) -> tuple[Example, ...]:
    """All examples of ``num`` sentences (0: all) drawn at random by ``seed`` and ``name``, in their order."""
    if not num:
        return tuple(examples)
    found = list(dict.fromkeys(_sentence(example) for example in examples))
    chosen = set(_shuffled(found, seed, name, "sentences")[:num])
    return tuple(example for example in examples if _sentence(example) in chosen)


def sample_notes(
    notes: Sequence[Note], *, max_sentences: int, seed: int, name: str, passage_sentences: int = 0
) -> tuple[Note, ...]:
    """Notes, drawn at random, until they hold ``max_sentences`` sentences (0: all notes).

    The note that reaches the number is the last one, however long it is: leaving it out for a shorter one
    would make long notes rarer in the sample than they are. Kept in their order. ``passage_sentences``: of
    each note a passage of as many sentences; 0: whole notes.
    """

    def part(note: Note) -> Note:
        if not passage_sentences or is_record(note):
            return note
        return passage(note, passage_sentences, seed=seed, name=name)

    if not max_sentences:
        return tuple(part(note) for note in notes)
    chosen: dict[str, Note] = {}
    total = 0
    for note in _shuffled(notes, seed, name, "notes"):
        if total >= max_sentences:
            break
        chosen[note.id] = part(note)
        total += num_sentences(chosen[note.id])
    return tuple(chosen[note.id] for note in notes if note.id in chosen)


def num_sentences(note: Note) -> int:
    """Sentences of ``note``; a record of instruction data counts as one."""
    return 1 if is_record(note) else len(sentences(note.text))


def _sentence(example: Example) -> tuple[str, int]:
    return example.note_id, example.pieces[0].start if example.pieces else 0


def _shuffled(items: Sequence[T], seed: int, name: str, what: str) -> list[T]:
    order = list(items)
    seeded(f"{seed}/{name}/{what}").shuffle(order)
    return order
