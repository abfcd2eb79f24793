"""Answers of one adapter to instruction data, and how right they are.

Where the score is "choice", the answer is the choice that the model finds most likely. Elsewhere it is
generated, greedily. What was answered is not kept: it may be text of notes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fedmedlora.corpora.instructions import record_of
from fedmedlora.corpora.note import Note
from fedmedlora.evaluation.answers import exact_match, token_f1
from fedmedlora.extraction.generate import generate_texts
from fedmedlora.extraction.likelihood import log_likelihoods
from fedmedlora.model.load import BaseModel
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
) -> dict[str, float]:
    """Record id -> score from 0 to 1 of the answer by ``model``, PEFT's model over ``base``.

    ``notes`` hold records, all of one file and so of one metric. ``report(num_done, num_total)`` counts
    what is read.
    """
    if not notes:
        return {}
    metric = record_of(notes[0]).score
    if metric == "choice":
        return _chosen(base, model, notes, batch_size, report)
    examples = [answer_example(note, "") for note in notes]
    texts = generate_texts(
        model,
        base.encoder,
        examples,
        batch_size=batch_size,
        max_new_tokens=[max_answer_tokens] * len(examples),
        share_prefix=True,
        progress=report,
    )
    held_against = _HELD_AGAINST[metric]
    return {
        note.id: held_against(text, record_of(note).response) for note, text in zip(notes, texts, strict=True)
    }


def _chosen(
    base: BaseModel,
    model: Any,
    notes: Sequence[Note],
    batch_size: int,
    report: Callable[[int, int], None],
) -> dict[str, float]:
    asked = [(note, choice) for note in notes for choice in record_of(note).choices]
    found = log_likelihoods(
        model,
        [base.encoder.encode(answer_example(note, choice)) for note, choice in asked],
        pad_id=base.encoder.pad_id,
        batch_size=batch_size,
        progress=report,
    )
    best: dict[str, tuple[float, str]] = {}
    for (note, choice), likelihood in zip(asked, found, strict=True):
        # Of two that are as likely the first counts, as it stands in the file.
        if note.id not in best or likelihood > best[note.id][0]:
            best[note.id] = likelihood, choice
    return {note.id: float(best[note.id][1] == record_of(note).response) for note in notes}
