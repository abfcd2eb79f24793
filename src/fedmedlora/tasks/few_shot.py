"""Few-shot prompts: the instruction with some solved examples behind it.

Brown et al., "Language Models are Few-Shot Learners", https://arxiv.org/abs/2005.14165, section 2. The
examples are the same for everything that is asked with one instruction, so that they are computed once.
They are sentences of notes, and stand in the prompt word for word: the notes must be the reader's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fedmedlora.corpora.draw import seeded
from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.schema import Schema
from fedmedlora.corpora.sentences import sentences
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.form import load_form
from fedmedlora.tasks.task import load_task

MAX_PIECES = 80  # of a sentence that is shown: a long one would cost more than it teaches


@dataclass(frozen=True)
class Shots:
    """Where solved examples are drawn from. ``num``: how many a prompt shows. Prints no note."""

    num: int
    seed: int
    notes: tuple[Note, ...] = field(repr=False)
    digest: str = ""  # of the notes, so that two of these can be told apart by what they print

    def __post_init__(self) -> None:
        found = hashlib.sha256()
        for note in self.notes:
            asked = [sorted(note.annotates.entities), sorted(note.annotates.pairs)]
            found.update(repr((note.text, note.entities, note.modifiers, note.links, asked)).encode())
        object.__setattr__(self, "digest", found.hexdigest())


def solved_examples(
    shots: Shots,
    task: str,
    annotates: Annotates,
    schema: Schema,
    *,
    prompt_set: str = "study",
    scope: str = "entity",
    form: str = "markup",
) -> tuple[Example, ...]:
    """At most ``shots.num`` examples of ``task`` with answers, asked as of notes that annotate ``annotates``.

    Only notes that annotate the most of what is asked for are used: all of it, where there are such. A note
    of fewer types shows no answer for the others, and none is made up. In an order drawn by
    ``shots.seed``, an example is taken first if its answer has a label that no earlier one shows, then any
    with an answer, then any.
    """
    kind = load_task(task)
    asked = set(kind.labels(schema, annotates))
    found: list[Example] = []
    covered = [len(asked & set(kind.labels(schema, note.annotates))) for note in shots.notes]
    for note, num_covered in zip(shots.notes, covered, strict=True):
        if not num_covered or num_covered < max(covered):
            continue
        whole = replace(note, annotates=annotates)
        segments = sentences(note.text, keep=[(e.start, e.end) for e in note.entities])
        rendered = kind.examples(
            whole, segments, schema, prompt_set=prompt_set, scope=scope, form=form, with_gold=True
        )
        found += [e for e in rendered.examples if len(e.pieces) <= MAX_PIECES]
    seeded(f"{shots.seed}/{task}/shots").shuffle(found)
    shown: set[str] = set()
    first: list[Example] = []
    for example in found:
        new = _labels_in(example) & asked - shown
        if new and len(first) < shots.num:
            first.append(example)
            shown |= new
    others = [e for e in found if e not in first]
    others.sort(key=lambda e: not _labels_in(e))  # stable: those with an answer before those without
    return (*first, *others)[: shots.num]


def with_shots(example: Example, solved: Sequence[Example]) -> Example:
    """``example`` with ``solved`` in its instruction, each as it would be asked, then its answer."""
    if not solved:
        return example
    # The last line announces the input ("Sentence:"); it stands before each of them.
    head, _, announce = example.instruction.rstrip("\n").rpartition("\n")
    parts = [head] if head else []
    for one in solved:
        asked, answer = "".join(one.input).strip(), "".join(one.target).strip()
        parts.append(f"{announce}\n{asked}\nAnswer:\n{answer}\n")
    return replace(example, instruction="\n".join([*parts, announce]))


def _labels_in(example: Example) -> set[str]:
    found = load_form(example.form).read(example, "".join(example.target))
    return {mention.label for mention in found.mentions}
