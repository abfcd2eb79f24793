"""An ``Adapter`` into the model and out of it: LoRA's factors, or every parameter of the base model.

Full-parameter training changes the base model, which everything else takes for frozen. So what is
overwritten is kept (``BaseModel.pristine``), and put back before the next LoRA adapter is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import is_whole_model
from fedmedlora.model.load import BaseModel
from fedmedlora.model.lora import read_adapter, write_adapter

_LORA = "lora_"


def read_weights(model: Any, *, whole: bool) -> Adapter:
    """What ``model`` (PEFT's) holds, as float32: LoRA's factors, or (``whole``) all of its base."""
    if not whole:
        return read_adapter(model)
    return Adapter(
        {name: tensor.detach().float().cpu().numpy().copy() for name, tensor in _own(model).items()}
    )


def write_weights(base: BaseModel, model: Any, weights: Adapter) -> None:
    """Put ``weights``, as ``read_weights`` gave them, into ``model``, PEFT's model over ``base``.

    A whole model switches LoRA off (B = 0); LoRA factors put the base model's own weights back first.
    Raises ``ValueError`` where names or shapes do not fit.
    """
    own = _own(model)
    if not is_whole_model(weights):
        restore_base(base, model)
        write_adapter(model, weights)
        return
    if {name: tuple(tensor.shape) for name, tensor in own.items()} != weights.shapes():
        raise ValueError("these weights are those of another model: names or shapes differ")
    fresh = read_adapter(model)
    write_adapter(
        model,
        Adapter({n: np.zeros_like(a) if f".{_LORA}B." in n else a for n, a in fresh.arrays.items()}),
    )
    with torch.no_grad():
        for name, tensor in own.items():
            if name not in base.pristine:
                base.pristine[name] = tensor.detach().clone()
            tensor.copy_(torch.from_numpy(np.array(weights.arrays[name])))


def restore_base(base: BaseModel, model: Any) -> None:
    """Put the base model's own weights back, where a whole model has been written over them."""
    if not base.pristine:
        return
    own = _own(model)
    with torch.no_grad():
        for name, tensor in base.pristine.items():
            own[name].copy_(tensor)
    base.pristine.clear()


def model_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Name -> shape of a whole model as ``read_weights`` reads it; it may be without weights."""
    return {name: tuple(parameter.shape) for name, parameter in _own(model).items()}


@contextmanager
def trained(model: Any, what: str) -> Iterator[list[torch.nn.Parameter]]:
    """The parameters that ``what`` (``Local.trains``) names, with gradients on for them alone meanwhile."""
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    whole = set(_own(model).values())
    for name, parameter in model.named_parameters():
        is_lora = parameter not in whole
        wanted = {"both": is_lora, "B": is_lora and f".{_LORA}B." in name, "model": not is_lora}[what]
        parameter.requires_grad_(wanted)
    try:
        yield [parameter for parameter in model.parameters() if parameter.requires_grad]
    finally:
        for parameter, wanted in before.items():
            parameter.requires_grad_(wanted)


def _own(model: Any) -> dict[str, torch.nn.Parameter]:
    """The base model's own parameters, under the names that they have without PEFT."""
    return {
        name.replace(".base_layer.", "."): parameter
        for name, parameter in model.get_base_model().named_parameters()
        if f".{_LORA}" not in name
    }
