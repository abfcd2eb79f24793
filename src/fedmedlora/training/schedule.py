"""Learning rate and order of examples: both run over all rounds, so a round can be repeated alone."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

SCHEDULES = ("cosine", "constant")


def learning_rate(step: int, *, peak: float, warmup_steps: int, total_steps: int, schedule: str) -> float:
    """Learning rate of optimizer step ``step`` (from 0) out of ``total_steps`` over all rounds.

    Linear warm-up to ``peak``, then constant, or a cosine down to a tenth of it (Loshchilov and Hutter,
    arXiv:1608.03983; the floor keeps the last round learning).
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "constant":
        return peak
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def steps_per_round(
    num_examples: int, *, examples_per_step: int, steps_per_round: int, passes_per_round: float
) -> int:
    """Optimizer steps of one round: ``steps_per_round``, or (0) as many as the passes over the data take."""
    if steps_per_round:
        return steps_per_round
    return max(1, math.ceil(num_examples * passes_per_round / examples_per_step))


def round_of_examples(examples: Sequence[T], *, num: int, round_num: int, seed: int, site: str) -> list[T]:
    """The ``num`` examples of round ``round_num`` (from 1), in order.

    The rounds are consecutive cuts of one endless sequence of passes, each pass in an order of its own,
    so every example is seen equally often whatever the length of a round.
    """
    if not examples:
        return []
    found: list[T] = []
    start = (round_num - 1) * num
    pass_num, offset = divmod(start, len(examples))
    while len(found) < num:
        order = list(range(len(examples)))
        digest = hashlib.sha256(f"{seed}/{site}/{pass_num}".encode()).digest()
        random.Random(int.from_bytes(digest[:8], "big")).shuffle(order)
        found.extend(examples[i] for i in order[offset : offset + num - len(found)])
        pass_num, offset = pass_num + 1, 0
    return found
