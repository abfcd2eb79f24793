"""What the form of answers asks of a study's other settings: the loss, and how adapters are read."""

from __future__ import annotations

from collections.abc import Sequence

from fedmedlora.study_tables import Evaluation, Tasks, Training
from fedmedlora.tasks.form import ReadBy, read_by
from fedmedlora.tasks.instruction import is_instruction


def answers_read_by(tasks: Tasks) -> ReadBy:
    """Which decoder reads the answers of ``tasks``."""
    return "generating" if is_instruction(tasks.names) else read_by(tasks.form)


def loss_of(tasks: Tasks, wanted: str) -> str:
    """``wanted``, as far as the answers have it: text leaves no decisions, and words are nothing else."""
    how = answers_read_by(tasks)
    return {"generating": "lm", "tagging": "decision"}.get(how, wanted)


def check_form(tasks: Tasks, training: Training, evaluation: Evaluation, methods: Sequence[str]) -> None:
    """Raise ``ValueError`` for settings that do not go with the form."""
    how = answers_read_by(tasks)
    if how == "generating" and training.loss == "decision":
        what = "instruction" if is_instruction(tasks.names) else f'form "{tasks.form}"'
        raise ValueError(
            f'[training] loss: "decision" trains what the copy constraint leaves open, and {what} copies '
            'nothing; set loss = "lm"'
        )
    if how != "tagging":
        return
    if training.loss == "lm":
        raise ValueError(
            f'[training] loss: "lm" trains text to be generated, and form "{tasks.form}" decides on words '
            'without generating any; leave it out, or set form = "markup"'
        )
    if "free" in evaluation.decoding:
        raise ValueError(
            f'[evaluation] decoding: "free" generates, and form "{tasks.form}" has nothing to generate; set '
            'decoding = ["constrained"], or form = "markup"'
        )
    if "few_shot" in methods:
        raise ValueError(
            f'methods: few_shot shows answers as text, and form "{tasks.form}" has none; leave it '
            'out, or set form = "markup"'
        )
