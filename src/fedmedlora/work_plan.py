"""What a piece of work costs, in tokens through the model forward: how far a run is, and what is left.

Only ratios matter; they make the bar of the whole run move evenly.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedmedlora.corpora.note import Note
from fedmedlora.corpora.sentences import sentences
from fedmedlora.measure import Form
from fedmedlora.model.tokens import TokenExample
from fedmedlora.tasks.task import askers
from fedmedlora.training.schedule import steps_per_round
from fedmedlora.training.site import LocalTraining


def training_cost(examples: Sequence[TokenExample], settings: LocalTraining) -> float:
    """One round of training at a site: forward, and twice that backward."""
    steps = steps_per_round(
        len(examples),
        examples_per_step=settings.examples_per_step,
        steps_per_round=settings.steps,
        passes_per_round=settings.passes,
    )
    mean = sum(len(e) for e in examples) / len(examples)
    prefixes = sum(len(prefix) for prefix in {e.prefix for e in examples})
    return 3.0 * steps * (settings.examples_per_step * mean + prefixes)


def validation_cost(examples: Sequence[TokenExample]) -> float:
    """One validation loss."""
    return float(sum(len(e) for e in examples))


def ner_cost(notes: Sequence[Note]) -> float:
    """Finding the entities of ``notes``."""
    return 1.0 * sum(len(note.text) for note in notes)  # some 0.3 tokens a character, read and written


def reading_cost(notes: Sequence[Note], form: Form) -> float:
    """Finding everything in ``notes``: entities, and modifiers for gold and for predicted entities."""
    cost = ner_cost(notes)
    if askers(form.tasks):
        per_note = [len(n.entities) * len(n.text) / max(1, len(sentences(n.text))) for n in notes]
        cost += 1.5 * sum(per_note)
    return cost * (1.0 if form.decoding == "constrained" else 2.5)
