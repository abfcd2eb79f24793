"""Task "instruction": a prompt and the response to it, each in plain words.

It shares training, aggregation and everything else with the tasks that extract, and has no files in
``kinds/``: nothing is found in a text, so there is nothing that a schema or an output form could say. The
message goes through the chat template as it is; an ``instruction`` that records share is the shared prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedmedlora.corpora.instructions import is_record, record_of
from fedmedlora.corpora.note import Note
from fedmedlora.tasks.example import PLAIN, Example

NAME = "instruction"


def is_instruction(tasks: Sequence[str]) -> bool:
    """Whether ``tasks``, by name, are this one. It goes with no other."""
    return tuple(tasks) == (NAME,)


def instruction_examples(notes: Iterable[Note]) -> tuple[Example, ...]:
    """One example per record, with its response as the target. Other notes give none."""
    return tuple(answer_example(note, record_of(note).response) for note in notes if is_record(note))


def answer_example(note: Note, answer: str) -> Example:
    """The record that ``note`` holds, as an example with the target ``answer``; "": to be answered."""
    record = record_of(note)
    return Example(
        id=note.id,
        note_id=note.id,
        task=NAME,
        instruction=record.instruction,
        input=(record.prompt,),
        pieces=(),
        labels=record.choices,
        target=(answer,) if answer else (),
        form=PLAIN,
    )
