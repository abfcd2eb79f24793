"""One forward pass that yields the logits of a few tokens at a few positions, never of a whole vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedmedlora.extraction.pool import Pool
from fedmedlora.model.logits import some_logits


def scores_at(
    model: Any,
    pool: Pool,
    ids: Sequence[int],
    positions: Sequence[int],
    mask: torch.Tensor,
    asked: Sequence[tuple[int, tuple[int, ...]]],
) -> list[npt.NDArray[np.float32]]:
    """Feed the tokens ``ids``; for each ``(index, tokens)`` of ``asked`` the logits of ``tokens`` behind
    the token ``ids[index]``.

    They are what the head's matrix says: scaling or soft-capping behind the head does not reorder them.
    """
    device = mask.device
    hidden = _before_head(
        model,
        input_ids=torch.tensor([ids], device=device),
        position_ids=torch.tensor([positions], device=device),
        attention_mask=mask,
        past_key_values=pool.cache,
        use_cache=True,
    )
    hidden = hidden[torch.tensor([index for index, _ in asked], device=device)]  # (num_asked, width)
    columns = {token: i for i, token in enumerate(sorted({t for _, tokens in asked for t in tokens}))}
    logits = some_logits(_head(model), hidden, torch.tensor(list(columns), device=device))
    table = logits.float().cpu().numpy()
    return [row[[columns[t] for t in tokens]] for row, (_, tokens) in zip(table, asked, strict=True)]


def largest_share(logits: npt.NDArray[np.float32]) -> float:
    """The softmax of the largest of ``logits``: 1 where there is only one."""
    return float(1.0 / np.exp(logits.astype(np.float64) - float(logits.max())).sum())


def _head(model: Any) -> torch.nn.Module:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head: torch.nn.Module = base.get_output_embeddings()
    return head


def _before_head(model: Any, **inputs: Any) -> torch.Tensor:
    """What the output head is given, (num_tokens, width); the head itself gets nothing to do."""
    seen: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        seen.append(args[0][0])
        return (args[0][:, :0], *args[1:])

    handle = _head(model).register_forward_pre_hook(keep)
    try:
        model(**inputs)
    finally:
        handle.remove()
    return seen[0]
