"""The fast decoder against the step-by-step reference: the same text, or a near tie in rounded arithmetic.

Both take every decision by comparing the same logits behind the same tokens. In float32 the texts must be the
same. In bfloat16 the passes round differently, so where the two differ first, the reference's own margin (its
best logit less that of what the fast one took) has to be within what such rounding can turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fedmedlora.extraction.decode import decode
from fedmedlora.extraction.walk import begin, step
from fedmedlora.model.logits import logits_at
from fedmedlora.model.tokens import Encoder
from fedmedlora.tasks.example import Example
from rows.adapters import adapter_of, put_into
from rows.extraction import unanswered
from rows.models import load, title, with_lora
from rows.row import Row
from rows.sentences import examples
from rows.setting import Setting, say

# bfloat16 keeps 8 bits: neighbours are 2^-7 of a number apart at most. Logits are sums that were rounded on
# the way, in an order that differs: four such steps of the larger logit. float32: none.
BOUNDS = {"float32": 0.0, "bfloat16": 4 * 2.0**-7}
MAX_PIECES = 12  # of a sentence on a CPU: the reference runs the whole text for every token


@dataclass(frozen=True, slots=True)
class Decision:
    """One token of the reference's: ``scores`` of the tokens allowed at its place; empty: it was forced."""

    token: int
    scores: dict[int, float]


@dataclass(frozen=True, slots=True)
class SameText:
    """One measurement: ``num`` sentences, the fast decoder in batches of 16 and one at a time."""

    shape: str
    precision: str
    num: int
    work: Path

    def rows(self, setting: Setting) -> Iterator[Row]:
        adapter = adapter_of(self.shape, "markup", setting, self.work)
        base = load(self.shape, self.precision, setting)
        model = put_into(with_lora(base), adapter)
        num = 3 if setting.smoke else self.num * (4 if setting.full else 1)
        every = [unanswered(e) for e in examples(setting, "test", "ner", 4 * num)]
        short = every if not setting.is_cpu else [e for e in every if len(e.pieces) <= MAX_PIECES]
        chosen = short[:: max(1, len(short) // num)][:num]
        margins: list[float] = []
        num_decisions = 0
        fast = {size: decode(model, base.encoder, chosen, batch_size=size) for size in (16, 1)}
        for number, example in enumerate(chosen):
            plain = reference(model, base.encoder, example)
            num_decisions += sum(len(d.scores) > 1 for d in plain)
            for outputs in fast.values():
                tokens = [t for piece in outputs[number] for t in base.encoder.piece(piece)]
                if (margin := first_difference(plain, tokens)) is not None:
                    margins.append(margin)
            say(f"  {number + 1} of {len(chosen)} sentences, {len(margins)} differences")
        yield verdict(
            len(chosen), num_decisions, margins, self.precision, title(self.shape, self.precision, setting)
        )


def verdict(num: int, num_decisions: int, margins: Sequence[float], precision: str, where: str) -> Row:
    """``margins``: relative, one per text that differs; two texts were compared for each sentence."""
    limit = BOUNDS[precision]
    found = f"{2 * num - len(margins)} of {2 * num} texts identical"
    if margins:
        found += f", the others first differ at margins up to {max(margins):.1%} of the logit"
    return Row(
        name=f"text of the fast decoder, {num} sentences twice, {num_decisions} decisions",
        against="the step-by-step reference",
        where=where,
        found=found,
        target=f"differs only at margins within {limit:.2%} of the logit" if limit else "identical",
        met=all(margin <= limit for margin in margins),
        details={"margins": list(margins), "num_decisions": num_decisions},
    )


@torch.inference_mode()
def reference(model: Any, encoder: Encoder, example: Example) -> list[Decision]:
    """``extraction/reference.py``, with the scores that it decides by."""
    device = next(model.parameters()).device
    ids = [*encoder.prefix(example.instruction), *encoder.prompt(example)]
    walk, output = begin(encoder, example)
    found = [Decision(t, {}) for piece in output for t in encoder.piece(piece)]
    while allowed := walk.allowed:
        scores: dict[int, float] = {}
        token = allowed[0]
        if len(allowed) > 1:
            row, column = torch.tensor([0], device=device), torch.tensor([len(ids) - 1], device=device)
            logits = logits_at(model, row, column, torch.tensor([ids], device=device), use_cache=False)[0]
            scores = {t: float(logits[t]) for t in allowed}
            token = max(allowed, key=lambda t: scores[t])  # the first of equal ones
        found.append(Decision(token, scores))
        ids.append(token)
        walk, _ = step(encoder, walk, token)
    return found


def first_difference(plain: Sequence[Decision], tokens: Sequence[int]) -> float | None:
    """The reference's margin where ``tokens`` first leave it, over its larger logit; None: they do not.

    Infinite where they take what the reference could not.
    """
    for place, decision in enumerate(plain):
        taken = tokens[place] if place < len(tokens) else None
        if taken == decision.token:
            continue
        if taken not in decision.scores:
            return float("inf")
        best, other = decision.scores[decision.token], decision.scores[taken]
        return (best - other) / max(abs(best), abs(other), 1e-9)
    return None if len(tokens) == len(plain) else float("inf")
