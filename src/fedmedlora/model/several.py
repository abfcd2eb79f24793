"""Several adapters over one base model in the same forward pass: each reads its own rows of the batch.

The base model's part of a layer is one product for all rows; A and B of the adapters are batched products
over K groups of rows. Adapters in one batch: Wen and Chaudhuri, "Batched Low-Rank Adaptation of Foundation
Models", arXiv:2312.05677, who give every row an adapter; here consecutive rows share one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.model.lora import refuse_unfit


@contextmanager
def several_adapters(model: Any, adapters: Sequence[Adapter]) -> Iterator[None]:
    """Meanwhile a batch of ``K * n`` rows through ``model``, PEFT's, is read with ``adapters``, K of them.

    The first ``n`` rows are read with the first, and so on. No gradient reaches them. What ``model`` holds
    itself is not read and not changed. Raises ``ValueError`` for an adapter that does not fit the model.
    """
    for adapter in adapters:
        refuse_unfit(model, adapter)
    with ExitStack() as stack:
        for name, layer in model.named_modules():
            if f"{name}.lora_A.weight" in adapters[0].arrays:
                a, b = (_stacked(adapters, f"{name}.lora_{factor}.weight", layer) for factor in "AB")
                handle = layer.register_forward_hook(_Hook(a, b))
                stack.callback(handle.remove)
        stack.enter_context(model.disable_adapter())
        yield


class _Hook:
    """Adds ``scaling * B_k A_k x`` to what the base layer made of the rows of adapter k."""

    def __init__(self, a: torch.Tensor, b: torch.Tensor) -> None:
        """``a``: (K, rank, d_in). ``b``: (K, d_out, rank)."""
        self._a, self._b = a.transpose(1, 2), b.transpose(1, 2)

    def __call__(self, layer: Any, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        (name,) = layer.active_adapters
        x = inputs[0].to(self._a.dtype)
        num = len(self._a)
        low = torch.bmm(x.reshape(num, -1, x.shape[-1]), self._a)
        scaling: float = layer.scaling[name]
        change = torch.bmm(low, self._b).reshape(out.shape) * scaling
        return (out + change).to(out.dtype)


def _stacked(adapters: Sequence[Adapter], name: str, layer: Any) -> torch.Tensor:
    """The arrays ``name`` of all adapters, as the layer keeps its own."""
    own = next(iter(layer.lora_A.values())).weight
    stacked = np.stack([adapter.arrays[name] for adapter in adapters])
    found: torch.Tensor = torch.from_numpy(stacked).to(device=own.device, dtype=own.dtype)
    return found
