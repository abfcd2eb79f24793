"""How likely a model finds given answers: the sum of the log-probabilities of their tokens, the end too.

With the end token it is the probability that the answer is this text and nothing more, so that "no" does
not profit from being how "no change" begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from fedmedlora.model.cache import prefix_cache, record_prefix
from fedmedlora.model.logits import logits_at, target_rows
from fedmedlora.model.tokens import TokenExample


@torch.inference_mode()
def log_likelihoods(
    model: Any,
    examples: Sequence[TokenExample],
    *,
    pad_id: int,
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> list[float]:
    """log p(target | prompt) of each example, in nats, in the order of ``examples``.

    Examples of one prefix share its keys and values. Raises ``ValueError`` for a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size}: at least 1 example is read at a time")
    device = next(model.parameters()).device
    found = [0.0] * len(examples)
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, example in enumerate(examples):
        groups.setdefault(example.prefix, []).append(number)
    num_done = 0
    for prefix_ids, numbers in groups.items():
        prefix = record_prefix(model, prefix_ids, device)
        ordered = sorted(numbers, key=lambda n: len(examples[n]), reverse=True)
        for at in range(0, len(ordered), batch_size):
            chosen = ordered[at : at + batch_size]
            batch = [examples[n] for n in chosen]
            ids, rows, columns = target_rows(batch, pad_id, device, with_prefix=False)
            logits = logits_at(
                model, rows, columns, ids, past_key_values=prefix_cache(prefix), use_cache=True
            )  # (num_target_tokens, vocabulary)
            gold = torch.tensor([token for example in batch for token in example.target], device=device)
            per_token = logits.log_softmax(dim=-1).gather(1, gold[:, None])[:, 0]
            rows_of = torch.tensor([i for i, e in enumerate(batch) for _ in e.target], device=device)
            sums = per_token.new_zeros(len(batch), dtype=torch.float64)
            sums.index_add_(0, rows_of, per_token.double())
            for number, total in zip(chosen, sums.tolist(), strict=True):
                found[number] = total
            num_done += len(chosen)
            if progress:
                progress(num_done, len(examples))
    return found
