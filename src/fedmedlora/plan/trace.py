"""Peak memory of training and validating, by running the code itself on shapes alone.

The model stands on torch's meta device: every operation computes the shape of its result and nothing else.
``optimizer_step`` of ``training/site.py`` runs on it, forward, backward, clipping and AdamW, while
``LiveBytes`` watches which tensors are alive: weights, activations that autograd keeps, gradients,
optimizer states and temporaries. So what is counted is what the installed versions of transformers, PEFT
and torch really keep, for any architecture, and nobody has to keep a formula in step with them. The idea
is that of torch's own ``torch.distributed._tools.mem_tracker.MemTracker``.

Fused attention is the one operation that a meta device runs differently: there torch takes the plain kernel,
which keeps the matrix of all scores. CPUs and GPUs take a fused one (Dao et al., FlashAttention,
arXiv:2205.14135), which keeps queries, keys, values and one number per query; ``_fused_attention`` has its
shapes. Where training computes plain products (``model/attention.py``), so does the model here.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.model.load import BaseModel
from fedmedlora.model.lora import adapter_shapes
from fedmedlora.model.tokens import TokenExample
from fedmedlora.model.weights import trained
from fedmedlora.training.site import LocalTraining, gradient_checkpointing, optimizer_step
from fedmedlora.training.validation import AT_ONCE, validation_losses

_ATEN = torch.ops.aten


@dataclass(frozen=True, slots=True)
class StepTrace:
    """Bytes and operations of one optimizer step.

    ``weights_bytes``: the frozen model as it stands in memory. ``adapter_bytes``, ``optimizer_bytes``: the
    adapter and AdamW's two moments. ``step_bytes``: what comes on top at the worst moment: activations,
    gradients, logits, temporaries. ``flop``: floating-point operations of its matrix products, a
    multiply-add being two. ``checkpointed``: layers ran again in the backward pass. ``validation_bytes``:
    what comes on top of the model alone when adapters are validated, which is at another time.
    """

    weights_bytes: int
    adapter_bytes: int
    optimizer_bytes: int
    step_bytes: int
    flop: int
    checkpointed: bool = False
    validation_bytes: int = 0

    @property
    def peak_bytes(self) -> int:
        """Of a step, or of validating, whichever takes more."""
        step = self.optimizer_bytes + self.step_bytes
        return self.weights_bytes + self.adapter_bytes + max(step, self.validation_bytes)


def trace_step(
    base: BaseModel,
    model: Any,
    examples: Sequence[TokenExample],
    how: LocalTraining,
    trains: str = "both",
) -> StepTrace:
    """The second optimizer step over ``examples`` (in the first, AdamW has no moments yet).

    ``model``: PEFT's, over ``base``, both on the meta device. Only lengths count, so token ids are free.
    ``trains``: see ``exchange/local.py``.
    """
    assert base.device.type == "meta", "with weights, this would train"
    with trained(model, trains) as parameters:
        return _trace(base, model, examples, how, parameters)


def _trace(
    base: BaseModel,
    model: Any,
    examples: Sequence[TokenExample],
    how: LocalTraining,
    trained: Sequence[torch.nn.Parameter],
) -> StepTrace:
    frozen = [p for p in model.parameters() if not p.requires_grad]
    buffers = list(model.buffers())
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=False)
    live = LiveBytes([*frozen, *trained, *buffers])
    weights = tensor_bytes([*frozen, *buffers])
    if how.gradient_checkpointing:
        gradient_checkpointing(model, True)
    model.train()
    try:
        with torch.random.fork_rng(devices=[]), live, _shapes_of_fused_attention():
            # Operations in the first step: their counter hangs on to tensors, and the second is for memory.
            with FlopCounterMode(display=False) as counter:
                optimizer_step(base, model, examples, how, optimizer, 0.0, ())
            optimizer.zero_grad(set_to_none=True)
            resident = live.now
            live.restart()
            optimizer_step(base, model, examples, how, optimizer, 0.0, ())
    finally:
        model.eval()
        if how.gradient_checkpointing:
            gradient_checkpointing(model, False)
        optimizer.zero_grad(set_to_none=True)
    adapter = tensor_bytes(trained)
    return StepTrace(
        weights_bytes=weights,
        adapter_bytes=adapter,
        optimizer_bytes=resident - weights - adapter,
        step_bytes=live.peak - resident,
        flop=counter.get_total_flops(),
        checkpointed=how.gradient_checkpointing,
    )


def trace_validation(
    base: BaseModel, model: Any, num_adapters: int, examples: Sequence[TokenExample], how: LocalTraining
) -> int:
    """What comes on top of the model when the losses of ``num_adapters`` on ``examples`` are found, bytes.

    At the worst moment, of one pass with ``validation.AT_ONCE`` of them or fewer.
    """
    assert base.device.type == "meta", "with weights, this would measure"
    nothing = np.zeros((), np.float32)
    shapes = adapter_shapes(model).items()
    adapter = Adapter({name: np.broadcast_to(nothing, shape) for name, shape in shapes})
    live = LiveBytes([*model.parameters(), *model.buffers()])
    resident = live.now
    with live, _shapes_of_fused_attention():
        validation_losses(base, model, [adapter] * min(num_adapters, AT_ONCE), examples, how)
    return live.peak - resident


def tensor_bytes(tensors: Sequence[torch.Tensor]) -> int:
    """Bytes of the tensors' memory; what two of them share counts once."""
    found = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(found.values())


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of all tensors on the meta device that are alive: ``now``, and at most so far, ``peak``."""

    def __init__(self, known: Sequence[torch.Tensor]) -> None:
        """``known``: tensors that are there already."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._alive: dict[int, weakref.ref[Any]] = {}
        self.now = self.peak = 0
        for tensor in known:
            self._add(tensor)

    def restart(self) -> None:
        """Forget the peak so far."""
        self.peak = self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _ATEN._local_scalar_dense.default and args[0].is_meta:
            return 1  # somebody asks for a value; every value is as good
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(one, torch.Tensor) and one.is_meta:
                self._add(one)
        return out

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return

        def gone(_: object) -> None:
            del self._alive[key]
            self.now -= size

        self._alive[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


@contextmanager
def _shapes_of_fused_attention() -> Iterator[None]:
    # A function mode would be off while a checkpointed layer runs again in the backward pass.
    functional: Any = torch.nn.functional
    kernel = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = _fused_attention
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = kernel


def _fused_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)  # the kernel adds it, in its own format
    fused = _ATEN._scaled_dot_product_flash_attention_for_cpu
    out: torch.Tensor = fused(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]
    return out
