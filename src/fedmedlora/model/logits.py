"""Logits at chosen positions only, by the model's own head and whatever it does behind it.

The output head of a small model costs as much as several of its layers, and a prompt's positions need no
logits. A hook in front of the head keeps the chosen rows, so scaling or soft-capping that a model applies
to its logits stays in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def _only(head: torch.nn.Module, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[None]:
    def keep(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0][rows, columns].unsqueeze(0), *inputs[1:])

    handle = head.register_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def logits_at(
    model: Any, rows: torch.Tensor, columns: torch.Tensor, input_ids: torch.Tensor, **inputs: Any
) -> torch.Tensor:
    """Logits (num_positions, vocabulary), float32, at ``(rows[i], columns[i])`` of the batch.

    ``input_ids``: (batch, tokens). ``inputs``: what else the model's forward takes.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    with _only(base.get_output_embeddings(), rows, columns):
        out = model(input_ids=input_ids, **inputs)
    logits: torch.Tensor = out.logits[0]
    return logits.float()
