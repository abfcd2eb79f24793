"""One site, one round: start from the current adapter, take some optimizer steps on the site's notes."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.model.load import BaseModel
from fedmedlora.model.memory import peak_memory_bytes, return_freed_memory
from fedmedlora.model.slices import pass_tokens_of
from fedmedlora.model.tokens import TokenExample
from fedmedlora.model.weights import read_weights, trained, write_weights
from fedmedlora.training.batches import padded_step, shared_prefix_step
from fedmedlora.training.loss import loss_totals
from fedmedlora.training.optimizer import make_optimizer
from fedmedlora.training.schedule import learning_rate, round_of_examples, steps_per_round
from fedmedlora.training.share import ALONE, Share

_STEPS = {"shared-prefix": shared_prefix_step, "padded": padded_step}


@dataclass(frozen=True, slots=True)
class LocalTraining:
    """How a site trains in a round. AdamW, fresh each round (``optimizer.py`` has the ways to keep it).

    ``examples_per_step``: examples per optimizer step. ``micro_batch``: examples per forward pass.
    ``steps``: optimizer steps per round; 0 means ``passes`` over the site's examples.
    ``learning_rate``: its peak; warm-up and schedule run over all ``num_rounds`` rounds.
    ``num_devices``: processes that take each step together (``data_parallel.py``).
    ``pass_tokens``: see ``model/slices.py``; 0: what the device costs.
    """

    num_rounds: int
    examples_per_step: int = 32
    micro_batch: int = 4
    steps: int = 0
    passes: float = 1.0
    learning_rate: float = 1e-3
    warmup_steps: int = 10
    schedule: str = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    loss: str = "lm+decision"
    decision_weight: float = 1.0
    batching: str = "shared-prefix"
    gradient_checkpointing: bool = False
    optimizer: str = "adamw"
    num_devices: int = 1
    # No part of what is trained, so no part of what a piece of work is known by.
    pass_tokens: int = field(default=0, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class LocalResult:
    """What a site has after a round. ``train_loss``: mean over the round's optimizer steps."""

    adapter: Adapter
    train_loss: float
    num_steps: int
    num_examples: int
    seconds: float
    peak_memory_bytes: int


def train_round(
    base: BaseModel,
    model: Any,
    current: Adapter,
    examples: Sequence[TokenExample],
    settings: LocalTraining,
    *,
    site: str,
    round_num: int,
    seed: int,
    local: Local | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    share: Share = ALONE,
) -> LocalResult:
    """Train ``model`` (PEFT's, over ``base``) from ``current`` for one round on ``examples``.

    ``local``: what the rule asks for beyond plain training. The result holds all of what ``current`` holds.
    ``share``: this process's part, where several train together (``data_parallel.py``).

    Same arguments, same result on the same machine. ``on_step(step, num_steps, loss)`` is called after
    each optimizer step. Raises ``ValueError`` without examples, and when the loss is no longer finite.
    """
    if not examples:
        raise ValueError(f"site {site!r} has no example to train on; check what its notes annotate")
    local = local or Local()
    whole = local.trains == "model"
    if whole:
        refuse_rounded(base)
    began = time.perf_counter()
    write_weights(base, model, current)
    batches = steps_of_round(examples, settings, round_num=round_num, seed=seed, site=site)
    per_round = len(batches)
    if settings.gradient_checkpointing:
        gradient_checkpointing(model, True)
    model.train()
    losses: list[float] = []
    try:
        with torch.random.fork_rng(devices=[]), trained(model, local.trains) as parameters:
            optimizer = make_optimizer(
                settings.optimizer,
                model,
                parameters,
                learning_rate=settings.learning_rate,
                weight_decay=settings.weight_decay,
            )
            anchors = [p.detach().clone() for p in parameters] if local.proximal else []
            torch.manual_seed(_step_seed(seed, site, round_num) + share.rank)  # for dropout, where it is set
            for step, batch in enumerate(batches):
                rate = learning_rate(
                    (round_num - 1) * per_round + step,
                    peak=settings.learning_rate,
                    warmup_steps=settings.warmup_steps,
                    total_steps=settings.num_rounds * per_round,
                    schedule=settings.schedule,
                )
                for group in optimizer.param_groups:
                    group["lr"] = rate * local.learning_rate_factor
                losses.append(
                    optimizer_step(base, model, batch, settings, optimizer, local.proximal, anchors, share)
                )
                if on_step:
                    on_step(step + 1, per_round, losses[-1])
    finally:
        model.eval()
        if settings.gradient_checkpointing:
            gradient_checkpointing(model, False)
        model.zero_grad(set_to_none=True)
    result = LocalResult(
        adapter=read_weights(model, whole=whole),
        train_loss=sum(losses) / len(losses),
        num_steps=per_round,
        num_examples=sum(map(len, batches)),
        seconds=time.perf_counter() - began,
        peak_memory_bytes=peak_memory_bytes(base.device.type),
    )
    return_freed_memory()  # or the next site's rows, of other lengths, take theirs beside it
    return result


def refuse_rounded(base: BaseModel) -> None:
    """Raise ``ValueError`` for a model whose own weights cannot be trained as they stand."""
    if base.precision != "float32" or base.quantization != "none":
        how = base.precision if base.quantization == "none" else base.quantization
        raise ValueError(
            f"training every parameter needs float32 weights, and these are {how}: steps smaller than its "
            'rounding would be lost; set [model] precision = "float32" and quantization = "none"'
        )


def steps_of_round(
    examples: Sequence[TokenExample], settings: LocalTraining, *, round_num: int, seed: int, site: str
) -> list[list[TokenExample]]:
    """The examples of each optimizer step of round ``round_num``, in order."""
    num_steps = steps_per_round(
        len(examples),
        examples_per_step=settings.examples_per_step,
        steps_per_round=settings.steps,
        passes_per_round=settings.passes,
    )
    size = settings.examples_per_step
    num = min(num_steps * size, _round_size(len(examples), settings))
    chosen = round_of_examples(examples, num=num, round_num=round_num, seed=seed, site=site)
    return [chosen[step * size : (step + 1) * size] for step in range(num_steps)]


@torch.no_grad()
def validation_loss(
    base: BaseModel,
    model: Any,
    adapter: Adapter,
    examples: Sequence[TokenExample],
    settings: LocalTraining,
) -> float:
    """The training loss of ``adapter`` on ``examples`` (mean over all supervised positions), no update."""
    if not examples:
        raise ValueError("the validation set has no example; check which notes the study names")
    write_weights(base, model, adapter)
    model.eval()
    return step_loss(base, model, examples, settings, backward=False)


def validation_gradient(
    base: BaseModel,
    model: Any,
    adapter: Adapter,
    examples: Sequence[TokenExample],
    settings: LocalTraining,
) -> tuple[float, Adapter]:
    """``validation_loss``, and its gradient by the arrays of ``adapter``, LoRA's; nothing is updated."""
    if not examples:
        raise ValueError("the validation set has no example; check which notes the study names")
    write_weights(base, model, adapter)
    model.eval()
    model.zero_grad(set_to_none=True)
    try:
        with trained(model, "both") as parameters:
            loss = step_loss(base, model, examples, settings, backward=True)
            gradients = {p: torch.zeros_like(p) if p.grad is None else p.grad for p in parameters}
            with torch.no_grad():
                for parameter, gradient in gradients.items():
                    parameter.copy_(gradient)  # so that it is read under the adapter's own names
        return loss, read_weights(model, whole=False)
    finally:
        model.zero_grad(set_to_none=True)
        write_weights(base, model, adapter)


def optimizer_step(
    base: BaseModel,
    model: Any,
    examples: Sequence[TokenExample],
    settings: LocalTraining,
    optimizer: torch.optim.Optimizer,
    proximal: float,
    anchors: Sequence[torch.Tensor],
    share: Share = ALONE,
) -> float:
    """Loss of one step of ``optimizer`` over ``examples``; ``anchors``: where ``proximal`` pulls to."""
    optimizer.zero_grad(set_to_none=True)
    loss = step_loss(base, model, examples, settings, backward=True, share=share)
    loss = share.add_up([p for group in optimizer.param_groups for p in group["params"]], loss)
    if not torch.isfinite(torch.tensor(loss)):
        raise ValueError(f"the training loss is {loss}: lower training.learning_rate")
    for parameter, anchor in zip(optimizer.param_groups[0]["params"], anchors, strict=bool(anchors)):
        if parameter.grad is not None:  # the gradient of mu / 2 |w - w_t|^2
            parameter.grad.add_(parameter.detach() - anchor, alpha=proximal)
    if settings.max_grad_norm:
        torch.nn.utils.clip_grad_norm_(
            [p for group in optimizer.param_groups for p in group["params"]], settings.max_grad_norm
        )
    optimizer.step()
    return loss


def step_loss(
    base: BaseModel,
    model: Any,
    examples: Sequence[TokenExample],
    settings: LocalTraining,
    *,
    backward: bool,
    share: Share = ALONE,
) -> float:
    """What ``share`` adds to the loss over ``examples`` as one step, batched as ``settings`` say."""
    passes = settings.pass_tokens or pass_tokens_of(base.device)
    return _STEPS[settings.batching](
        model,
        share.own(examples, micro_batch=settings.micro_batch, pass_tokens=passes),
        pad_id=base.encoder.pad_id,
        device=base.device,
        micro_batch=settings.micro_batch,
        loss=settings.loss,
        decision_weight=settings.decision_weight,
        backward=backward,
        pass_tokens=passes,
        totals=loss_totals(examples),
    )


def _round_size(num_examples: int, settings: LocalTraining) -> int:
    """Examples of a round: with passes, the last step of a round may be a short one."""
    if settings.steps:
        return settings.steps * settings.examples_per_step
    return max(1, round(num_examples * settings.passes))


def check_gradient_checkpointing(model: Any) -> None:
    """Raise ``ValueError`` for a model that gradient checkpointing cannot serve here; changes nothing."""
    _checkpointed_layers(model)


def gradient_checkpointing(model: Any, on: bool) -> None:
    """Recompute activations in the backward pass instead of keeping them.

    transformers drops a cache from a checkpointed layer, because a cache that grows would grow twice.
    Ours only reads (the prefix) or overwrites (while recording it), so it may stay. Set on the layers
    themselves: the model's own switch also leaves a hook on the embeddings, which costs a gradient.
    Raises ``ValueError`` for a model whose layers cannot do it: dropping the cache in silence would train
    without the instruction.
    """
    for layer in _checkpointed_layers(model):
        layer.gradient_checkpointing = on
        layer._can_checkpoint_with_cache = on
        layer._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=False)


def _checkpointed_layers(model: Any) -> list[Any]:
    layers = [m for m in model.get_base_model().modules() if hasattr(m, "_can_checkpoint_with_cache")]
    if not layers:
        raise ValueError(
            f"gradient_checkpointing: the layers of {type(model.get_base_model()).__name__} cannot keep a "
            "shared prompt under it in this version of transformers; "
            "set training.gradient_checkpointing = false"
        )
    return layers


def _step_seed(seed: int, site: str, round_num: int) -> int:
    digest = hashlib.sha256(f"{seed}/{site}/{round_num}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
