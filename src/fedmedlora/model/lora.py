"""LoRA by PEFT (Hu et al., arXiv:2106.09685): attach, read and write an ``Adapter``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fedmedlora.exchange.adapter import Adapter


def attach_lora(
    model: Any,
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    targets: str | Sequence[str] = "all-linear",
    seed: int = 0,
) -> Any:
    """Wrap ``model`` with a fresh LoRA adapter and return PEFT's model, ready to read; the base stays frozen.

    ``targets``: ``"all-linear"`` (every linear layer but the output head) or module names such as
    ``["q_proj", "v_proj"]``. B starts at zero, so the fresh adapter changes nothing; A is drawn from
    ``seed``. Raises ``ValueError`` for a target that matches nothing.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    if not isinstance(targets, str):
        _check_targets(model, targets)
        targets = list(targets)
    elif targets != "all-linear":
        _check_targets(model, [targets])
        targets = [targets]
    has_conv1d = any(isinstance(module, Conv1D) for module in model.modules())
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        bias="none",
        fan_in_fan_out=has_conv1d,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # PEFT asks transformers by a name that transformers is giving up; nobody here can change that.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        torch.manual_seed(seed)
        return get_peft_model(model, config).eval()  # PEFT leaves its dropout switched on


def detach_lora(model: Any) -> Any:
    """The base model again, without the adapter, unchanged."""
    return model.unload()


def read_adapter(model: Any) -> Adapter:
    """The adapter's arrays under PEFT's own names, float32: A (rank, d_in), B (d_out, rank)."""
    return Adapter({name: tensor.detach().float().cpu().numpy().copy() for name, tensor in _tensors(model)})


def adapter_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Name -> shape of what ``read_adapter`` reads; the model may be without weights (on the meta device)."""
    return {name: tuple(tensor.shape) for name, tensor in _tensors(model)}


def write_adapter(model: Any, adapter: Adapter) -> None:
    """Put ``adapter`` into the model; the exact inverse of ``read_adapter``.

    Raises ``ValueError`` when names or shapes differ (another rank, other targets, another base model).
    """
    refuse_unfit(model, adapter)
    with torch.no_grad():
        for name, tensor in _tensors(model):
            # The adapter's arrays are read-only; torch wants a writable buffer even to read from.
            tensor.copy_(torch.from_numpy(np.array(adapter.arrays[name])))


def refuse_unfit(model: Any, adapter: Adapter) -> None:
    """Raise ``ValueError`` where names or shapes are not those of the model's own adapter."""
    tensors = dict(_tensors(model))
    if set(tensors) != set(adapter.arrays):
        missing, extra = set(tensors) - set(adapter.arrays), set(adapter.arrays) - set(tensors)
        raise ValueError(
            f"the adapter does not fit the model: {len(missing)} arrays are missing (such as "
            f"{sorted(missing)[:1]}), {len(extra)} are unknown (such as {sorted(extra)[:1]}); "
            "it was made for other targets or another base model"
        )
    shapes = adapter.shapes()
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes[name]:
            raise ValueError(
                f"the adapter does not fit the model: {name} has shape {shapes[name]}, the "
                f"model expects {tuple(tensor.shape)} (another rank or another base model)"
            )


def _tensors(model: Any) -> list[tuple[str, torch.Tensor]]:
    from peft import get_peft_model_state_dict

    # With save_embedding_layers at its default, PEFT may ask a hub about the base model and add
    # embedding matrices to the adapter.
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return sorted(state.items())


def _check_targets(model: Any, targets: Sequence[str]) -> None:
    from transformers.pytorch_utils import Conv1D

    # GPT-2 keeps its linear layers as transposed "Conv1D".
    kinds = (torch.nn.Linear, Conv1D)
    linear = {name for name, module in model.named_modules() if isinstance(module, kinds)}
    known = sorted({name.rsplit(".", 1)[-1] for name in linear})
    for target in targets:
        if not any(name == target or name.endswith("." + target) for name in linear):
            raise ValueError(
                f"adapter target {target!r} matches no linear layer of this model; it has {known} "
                "(or use 'all-linear')"
            )
