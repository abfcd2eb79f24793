"""The optimizer of a round: AdamW by torch, or paged, by bitsandbytes.

AdamW: Loshchilov and Hutter, arXiv:1711.05101. Paged: Dettmers et al., QLoRA, arXiv:2305.14314, section 3:
its moments lie in memory that the driver moves between the card and the machine, so that a step which needs
the room does not fail. In 8 bits: Dettmers et al., arXiv:2110.02861: the moments are quantized in blocks.
bitsandbytes leaves arrays below 100,000 numbers on the card, and below 4,096 in 32 bits.

bitsandbytes never frees a page, so where each round begins afresh, as here, they would add up. The optimizer
is therefore kept as long as its model and set back to its beginning, which is the same, bit for bit.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch

OPTIMIZERS = ("adamw", "paged_adamw", "paged_adamw_8bit")

_Key = tuple[str, tuple[int, ...]]
# PEFT's model -> what was made for it. An optimizer holds parameters, which do not hold their model.
_kept: WeakKeyDictionary[Any, dict[_Key, torch.optim.Optimizer]] = WeakKeyDictionary()


def refuse_optimizer(name: str, device: torch.device) -> None:
    """Raise ``ValueError`` for an optimizer that cannot run on ``device``, saying what to do."""
    if name == "adamw":
        return
    if device.type != "cuda":
        raise ValueError(
            f"[model] optimizer {name!r} needs an NVIDIA GPU: it moves its state between the card and the "
            "machine's memory, and no card is visible here; set optimizer = 'adamw'"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            f"[model] optimizer {name!r} needs the package bitsandbytes, which is not installed here: "
            "pip install \"fedmedlora[cuda]\", or set optimizer = 'adamw'"
        )


def make_optimizer(
    name: str,
    model: Any,
    parameters: Sequence[torch.nn.Parameter],
    *,
    learning_rate: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """The optimizer ``name`` over ``parameters`` of ``model``, at its beginning."""
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=False)
    kept = _kept.setdefault(model, {})
    key = (name, tuple(map(id, parameters)))
    if key not in kept:
        kept[key] = _paged(name)(parameters, lr=learning_rate, weight_decay=weight_decay)
    optimizer = kept[key]
    _set_back(optimizer)
    for group in optimizer.param_groups:
        group |= {"lr": learning_rate, "weight_decay": weight_decay}
    return optimizer


def _paged(name: str) -> Callable[..., torch.optim.Optimizer]:
    from bitsandbytes.optim import PagedAdamW8bit, PagedAdamW32bit

    found: Callable[..., torch.optim.Optimizer] = {
        "paged_adamw": PagedAdamW32bit,
        "paged_adamw_8bit": PagedAdamW8bit,
    }[name]
    return found


def _set_back(optimizer: torch.optim.Optimizer) -> None:
    """Everything that steps have left in ``optimizer`` as it was when its state was made: zero."""
    from bitsandbytes.functional import fill

    for state in optimizer.state.values():
        for key, value in state.items():
            if key.startswith("qmap"):
                continue  # the table of the 8-bit numbers, no state
            if not isinstance(value, torch.Tensor):
                state[key] = 0  # steps so far
            elif getattr(value, "is_paged", False):
                fill(value, 0)  # on the card, where the pages may lie
            else:
                value.zero_()
