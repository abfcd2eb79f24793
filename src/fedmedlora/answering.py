"""Answers of one adapter to instruction data, and how right they are.

Where the score is "choice", the answer is the choice that the model finds most likely. Elsewhere it is
generated, greedily. What was answered is not kept: it may be text of notes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from fedmedlora.corpora.instructions import record_of
from fedmedlora.corpora.note import Note
from fedmedlora.evaluation.answers import exact_match, token_f1
from fedmedlora.extraction.generate import generate_texts
from fedmedlora.extraction.likelihood import log_likelihoods
from fedmedlora.model.cache import num_positions
from fedmedlora.model.load import BaseModel
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.instruction import answer_example

_HELD_AGAINST = {"exact_match": exact_match, "token_f1": token_f1}


def answer(
    base: BaseModel,
    model: Any,
    notes: Sequence[Note],
    *,
    batch_size: int,
    max_answer_tokens: int,
    report: Callable[[int, int], None],
) -> tuple[dict[str, float], int]:
    """(record id -> score from 0 to 1 of the answer by ``model``, how many records could not be answered).

    ``model``: PEFT's over ``base``. ``notes`` hold records, all of one file and so of one metric. A record
    that is longer than the model has positions is not answered and scored 0, as is one with a choice of no
    finite likelihood. ``report(num_done, num_total)`` counts what is read.
    """
    metric = record_of(notes[0]).score if notes else ""
    room = num_positions(base.model)
    if metric == "choice":
        found = _chosen(base, model, notes, batch_size, room, report)
    else:
        found = _generated(base, model, notes, batch_size, max_answer_tokens, room, report)
    return {note.id: found.get(note.id, 0.0) for note in notes}, len(notes) - len(found)


def _generated(
    base: BaseModel,
    model: Any,
    notes: Sequence[Note],
    batch_size: int,
    max_answer_tokens: int,
    room: float,
    report: Callable[[int, int], None],
) -> dict[str, float]:
    """Scores of the records that fit, by the text that is generated."""
    examples = {note.id: answer_example(note, "") for note in notes}
    fit = [note for note in notes if _num_prompt_tokens(base, examples[note.id]) < room]
    texts = generate_texts(
        model,
        base.encoder,
        [examples[note.id] for note in fit],
        batch_size=batch_size,
        max_new_tokens=[max_answer_tokens] * len(fit),
        share_prefix=True,
        progress=report,
    )
    records = [record_of(note) for note in fit]
    return {
        note.id: _HELD_AGAINST[record.score](text, record.response)
        for note, record, text in zip(fit, records, texts, strict=True)
    }


def _chosen(
    base: BaseModel,
    model: Any,
    notes: Sequence[Note],
    batch_size: int,
    room: float,
    report: Callable[[int, int], None],
) -> dict[str, float]:
    """Scores of the records that fit with every choice, by the choice that is most likely."""
    encoded = {
        note.id: [base.encoder.encode(answer_example(note, c)) for c in record_of(note).choices]
        for note in notes
    }
    fit = [note for note in notes if all(len(e.prefix) + len(e) <= room for e in encoded[note.id])]
    likelihoods = iter(
        log_likelihoods(
            model,
            [example for note in fit for example in encoded[note.id]],
            pad_id=base.encoder.pad_id,
            batch_size=batch_size,
            progress=report,
        )
    )
    found = {}
    for note in fit:
        record = record_of(note)
        by_choice = {choice: next(likelihoods) for choice in record.choices}
        if not all(math.isfinite(likelihood) for likelihood in by_choice.values()):
            continue  # an adapter that diverged chooses nothing
        # Of two that are as likely the first counts, as it stands in the file.
        found[note.id] = float(max(by_choice, key=lambda choice: by_choice[choice]) == record.response)
    return found


def _num_prompt_tokens(base: BaseModel, example: Example) -> int:
    return len(base.encoder.prefix(example.instruction)) + len(base.encoder.prompt(example))
