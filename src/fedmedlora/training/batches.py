"""Gradients of one optimizer step, two ways that agree: padded rows, and rows behind a shared prefix.

*Padded* repeats the whole prompt in every row: the plain reference. *Shared-prefix* (the default) uses
that the examples of a step have the same long instruction: it runs the instruction once, shows its
keys and values to all rows, collects the gradient that reaches them, and sends it back through the
instruction once per optimizer step. Same loss, same gradient, most of the work left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from fedmedlora.model.cache import Prefix, prefix_cache, record_prefix
from fedmedlora.model.logits import precision_of, tagged_mask, target_rows
from fedmedlora.model.slices import micro_batches, pass_tokens_of
from fedmedlora.model.slides import slides
from fedmedlora.model.tokens import TokenExample
from fedmedlora.training.loss import LossTotals, loss_share, loss_totals, pass_loss

BATCHINGS = ("shared-prefix", "padded")

# (model, examples, ...) -> the step's loss; gradients are left in the parameters' .grad
StepFunction = Callable[..., float]


def by_prefix(examples: Iterable[TokenExample]) -> dict[tuple[int, ...], list[TokenExample]]:
    """Examples grouped by instruction, each group longest first (so the peak of memory comes first)."""
    groups: dict[tuple[int, ...], list[TokenExample]] = {}
    for example in examples:
        groups.setdefault(example.prefix, []).append(example)
    return {prefix: sorted(group, key=len, reverse=True) for prefix, group in groups.items()}


def refuse_padded_tags(model: Any) -> None:
    """Raise ``ValueError`` for a model whose padded rows of form tags would be read otherwise than trained.

    A mask of one's own is used by every layer as it is. So one that attends to a window sees all of the
    instruction under it, where reading, which runs the instruction by itself, leaves it the window.
    """
    if slides(model):
        raise ValueError(
            '[training] batching: "padded" shows the whole instruction to layers that read it through a '
            'sliding window, as this model has them, where form "tags" is trained: what is trained would not '
            'be what reads; set batching = "shared-prefix", or [tasks] form = "markup"'
        )


def padded_step(
    model: Any,
    examples: Sequence[TokenExample],
    *,
    pad_id: int,
    device: torch.device,
    micro_batch: int,
    loss: str,
    decision_weight: float,
    backward: bool = True,
    pass_tokens: int = 0,
    needed_logits_only: bool = False,
    totals: LossTotals | None = None,
) -> float:
    """Loss of one optimizer step over padded rows, each with its whole prompt.

    With ``backward`` the gradients are added to the parameters' ``.grad``. ``pass_tokens``: see
    ``micro_batches``; 0: what the device costs. ``needed_logits_only``: skip
    the output head at the prompt's positions, as ``shared_prefix_step`` does; without it this is the plain
    forward pass that any trainer makes. ``totals``: of the whole step, where ``examples`` are a part of it.
    Raises ``ValueError`` as ``refuse_padded_tags`` does.
    """
    totals = totals or loss_totals(examples)
    total = 0.0
    if any(example.is_tagged for example in examples):
        refuse_padded_tags(model)

    def length(example: TokenExample) -> int:
        return len(example.prefix) + len(example)

    ordered = sorted(examples, key=length, reverse=True)
    passes = pass_tokens or pass_tokens_of(device)
    for batch in micro_batches(ordered, micro_batch, pass_tokens=passes, length=length):
        ids, rows, columns = places = target_rows(batch, pad_id, device, with_prefix=True)
        mask = tagged_mask(batch, precision_of(model), device, with_prefix=True)
        how: dict[str, Any] = {"loss": loss, "decision_weight": decision_weight}
        if needed_logits_only:
            share = pass_loss(model, batch, totals, places, **how, use_cache=False, attention_mask=mask)
        else:
            out = model(input_ids=ids, use_cache=False, attention_mask=mask)
            logits = out.logits[rows, columns].float()
            share = loss_share(logits, batch, totals, **how)
            del out, logits
        if backward:
            share.backward()  # type: ignore[no-untyped-call]
        total += share.item()
        del share  # before the next pass makes its own
    return total


def shared_prefix_step(
    model: Any,
    examples: Sequence[TokenExample],
    *,
    pad_id: int,
    device: torch.device,
    micro_batch: int,
    loss: str,
    decision_weight: float,
    backward: bool = True,
    pass_tokens: int = 0,
    totals: LossTotals | None = None,
) -> float:
    """The same loss and gradients as ``padded_step``, each distinct prefix run once."""
    totals = totals or loss_totals(examples)
    total = 0.0
    for prefix_ids, group in by_prefix(examples).items():
        with torch.set_grad_enabled(backward):
            prefix = record_prefix(model, prefix_ids, device)
        leaves = prefix.detached()
        for batch in micro_batches(group, micro_batch, pass_tokens=pass_tokens or pass_tokens_of(device)):
            share = pass_loss(
                model,
                batch,
                totals,
                target_rows(batch, pad_id, device, with_prefix=False),
                loss=loss,
                decision_weight=decision_weight,
                past_key_values=prefix_cache(leaves),
                use_cache=True,
                attention_mask=tagged_mask(batch, precision_of(model), device, with_prefix=False),
            )
            if backward:
                share.backward()  # type: ignore[no-untyped-call]
            total += share.item()
            del share  # before the next pass makes its own
        if backward:
            _send_back(prefix, leaves)
    return total


def _send_back(prefix: Prefix, leaves: Prefix) -> None:
    """Send the gradient that the rows left at the prefix's keys and values through the prefix."""
    pairs = [
        (tensor, leaf.grad)
        for tensor, leaf in zip((*prefix.keys, *prefix.values), (*leaves.keys, *leaves.values), strict=True)
        if tensor.requires_grad and leaf.grad is not None
    ]
    if pairs:
        tensors, gradients = zip(*pairs, strict=True)
        torch.autograd.backward(tensors, gradients)
