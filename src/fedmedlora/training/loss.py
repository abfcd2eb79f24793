"""The training loss over a target: language-model loss plus the loss of the decisions left open.

``lm``: cross-entropy of every target token over the whole vocabulary. ``decision``: at every place where
the copy constraint leaves more than one token open, cross-entropy over those tokens only. The default is
``lm + decision_weight * decision``: the decisions are what extraction is scored on, and the language-model
part keeps the adapter readable for plain ``generate`` (trained on decisions alone it copies nothing).

Both are means over the whole optimizer step: sums here, divided by the step's totals, so that neither
the batching nor the size of a micro-batch changes the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from fedmedlora.model.tokens import TokenExample

LOSSES = ("lm+decision", "lm", "decision")


@dataclass(frozen=True, slots=True)
class LossTotals:
    """Supervised positions of an optimizer step: all target tokens, and those left open."""

    num_tokens: int
    num_decisions: int


def loss_totals(examples: Sequence[TokenExample]) -> LossTotals:
    """Supervised positions of ``examples``."""
    return LossTotals(
        num_tokens=sum(len(e.target) for e in examples),
        num_decisions=sum(sum(1 for c in e.choices if c) for e in examples),
    )


def loss_share(
    logits: torch.Tensor,
    examples: Sequence[TokenExample],
    totals: LossTotals,
    *,
    loss: str,
    decision_weight: float,
) -> torch.Tensor:
    """What these examples add to the loss of an optimizer step with ``totals``.

    ``logits``: (num_target_tokens, vocabulary), float32, the examples' target tokens one after the other.
    """
    device = logits.device
    share = logits[:0].sum()  # zero, and yet something that backward can start from
    if loss in ("lm+decision", "lm"):
        gold = torch.tensor([token for e in examples for token in e.target], device=device)
        share = share + cross_entropy(logits, gold, reduction="sum") / totals.num_tokens
    if loss in ("lm+decision", "decision") and totals.num_decisions:
        weight = decision_weight if loss == "lm+decision" else 1.0
        share = share + weight * _decision_sum(logits, examples) / totals.num_decisions
    return share


def _decision_sum(logits: torch.Tensor, examples: Sequence[TokenExample]) -> torch.Tensor:
    every = [c for e in examples for c in e.choices]
    opened = [(row, c) for row, c in enumerate(every) if c]
    if not opened:
        return logits.new_zeros(())
    width = max(len(c) for _, c in opened)
    rows = torch.tensor([row for row, _ in opened], device=logits.device)
    # Short rows are filled up with their gold token and masked out again.
    ids = torch.tensor([[*c, *(c[0],) * (width - len(c))] for _, c in opened], device=logits.device)
    filler = torch.tensor(
        [[False] * len(c) + [True] * (width - len(c)) for _, c in opened], device=logits.device
    )
    scores = logits[rows].gather(1, ids).masked_fill(filler, float("-inf"))
    gold = torch.zeros(len(opened), dtype=torch.long, device=logits.device)  # gold stands first
    return cross_entropy(scores, gold, reduction="sum")
