"""The training loss over a target: language-model loss plus the loss of the decisions left open.

``lm``: cross-entropy of every target token over the whole vocabulary. ``decision``: at every place where
the form of the answer leaves more than one token open, cross-entropy over those tokens only. The default is
``lm + decision_weight * decision``: the decisions are what extraction is scored on, and the language-model
part keeps the adapter readable for plain ``generate`` (trained on decisions alone it copies nothing).

Both are means over the whole optimizer step: sums here, divided by the step's totals, so that neither
the batching nor the size of a micro-batch changes the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from fedmedlora.model.logits import logits_at
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
    opened = _opened(examples)
    if loss in ("lm+decision", "decision") and opened:
        weight = decision_weight if loss == "lm+decision" else 1.0
        at = torch.tensor([row for row, _ in opened], device=device)
        decided = _decision_sum(logits[at], [choices for _, choices in opened])
        share = share + weight * decided / totals.num_decisions
    return share


def pass_loss(
    model: Any,
    examples: Sequence[TokenExample],
    totals: LossTotals,
    places: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    *,
    loss: str,
    decision_weight: float,
    **inputs: Any,
) -> torch.Tensor:
    """``loss_share`` of ``examples``, run through ``model``; only the logits that it compares are computed.

    ``places``: what ``model/logits.target_rows`` says of them. ``inputs``: what else the forward takes.
    """
    ids, rows, columns = places
    if loss != "decision":
        logits = logits_at(model, rows, columns, ids, **inputs)
        return loss_share(logits, examples, totals, loss=loss, decision_weight=decision_weight)
    opened = _opened(examples)
    # Without any, one place all the same: backward needs something to start from.
    at = torch.tensor([row for row, _ in opened] or [0], device=ids.device)
    tokens = sorted({token for _, choices in opened for token in choices}) or [0]
    chosen = torch.tensor(tokens, device=ids.device)
    logits = logits_at(model, rows[at], columns[at], ids, tokens=chosen, **inputs)
    column_of = {token: column for column, token in enumerate(tokens)}
    choices = [[column_of[token] for token in found] for _, found in opened]
    if not choices:
        return logits[:0].sum()
    return _decision_sum(logits, choices) / totals.num_decisions


def _opened(examples: Sequence[TokenExample]) -> list[tuple[int, tuple[int, ...]]]:
    """(row among all target tokens, choices) of each decision."""
    every = [c for e in examples for c in e.choices]
    return [(row, c) for row, c in enumerate(every) if c]


def _decision_sum(logits: torch.Tensor, choices: Sequence[Sequence[int]]) -> torch.Tensor:
    """``logits``: (num_decisions, columns). ``choices``: of each decision its columns, gold first."""
    width = max(map(len, choices))
    # Short rows are filled up with their gold column and masked out again.
    ids = torch.tensor([[*c, *(c[0],) * (width - len(c))] for c in choices], device=logits.device)
    filler = torch.tensor(
        [[False] * len(c) + [True] * (width - len(c)) for c in choices], device=logits.device
    )
    scores = logits.gather(1, ids).masked_fill(filler, float("-inf"))
    gold = torch.zeros(len(choices), dtype=torch.long, device=logits.device)  # gold stands first
    return cross_entropy(scores, gold, reduction="sum")
