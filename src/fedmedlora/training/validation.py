"""The losses of several adapters on validation examples: what Fed-MedLoRA+ weighs sites by.

One base model, one pass over the examples: in every forward pass each row occurs once for each adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import is_whole_model
from fedmedlora.model.cache import prefix_cache, record_prefix
from fedmedlora.model.load import BaseModel
from fedmedlora.model.logits import logits_at, precision_of, tagged_mask, target_rows
from fedmedlora.model.memory import return_freed_memory
from fedmedlora.model.several import several_adapters
from fedmedlora.model.slices import micro_batches, pass_tokens_of
from fedmedlora.model.tokens import TokenExample
from fedmedlora.model.weights import restore_base
from fedmedlora.training.batches import by_prefix
from fedmedlora.training.loss import loss_share, loss_totals
from fedmedlora.training.site import LocalTraining, validation_loss

# More at once fill a device no better, and the instruction's keys and values are kept for each.
AT_ONCE = 8


@torch.no_grad()
def validation_losses(
    base: BaseModel,
    model: Any,
    adapters: Sequence[Adapter],
    examples: Sequence[TokenExample],
    settings: LocalTraining,
) -> list[float]:
    """``validation_loss`` of each of ``adapters``, ``AT_ONCE`` in a pass; whole models one by one.

    Equal to it but for the order of sums. Raises ``ValueError`` without examples, and for an adapter that
    does not fit the model.
    """
    if not examples:
        raise ValueError("the validation set has no example; check which notes the study names")
    if any(is_whole_model(adapter) for adapter in adapters):
        return [validation_loss(base, model, adapter, examples, settings) for adapter in adapters]
    restore_base(base, model)
    model.eval()
    found: list[float] = []
    for start in range(0, len(adapters), AT_ONCE):
        some = adapters[start : start + AT_ONCE]
        with several_adapters(model, some):
            found += _losses(base, model, len(some), examples, settings)
    return_freed_memory()
    return found


def _losses(
    base: BaseModel, model: Any, num: int, examples: Sequence[TokenExample], settings: LocalTraining
) -> list[float]:
    totals = loss_totals(examples)
    found = [0.0] * num
    for prefix_ids, group in by_prefix(examples).items():
        prefix = record_prefix(model, prefix_ids, base.device, num_adapters=num)
        passes = settings.pass_tokens or pass_tokens_of(base.device)
        for batch in micro_batches(group, settings.micro_batch, pass_tokens=passes):
            ids, rows, columns = target_rows(batch, base.encoder.pad_id, base.device, with_prefix=False)
            mask = tagged_mask(batch, precision_of(model), base.device, with_prefix=False)
            each = torch.arange(num, device=base.device).repeat_interleave(len(rows))
            logits = logits_at(
                model,
                each * len(ids) + rows.repeat(num),
                columns.repeat(num),
                ids.repeat(num, 1),
                past_key_values=prefix_cache(prefix),
                use_cache=True,
                attention_mask=None if mask is None else mask.repeat(num, 1, 1, 1),
            )
            for number, part in enumerate(logits.chunk(num)):
                share = loss_share(
                    part, batch, totals, loss=settings.loss, decision_weight=settings.decision_weight
                )
                found[number] += share.item()
            del logits, part, share  # before the next pass makes its own
    return found
