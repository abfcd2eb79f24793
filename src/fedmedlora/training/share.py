"""One optimizer step taken by several processes: each a share of its examples, the gradients added up.

The loss of a step is a sum over its supervised tokens, divided by how many there are (``loss.py``). Divided
by those of the whole step, the shares of the processes add up to it, and so do their gradients: what one
process computes is what several compute, but for the order of sums. Data parallelism as in Goyal et al.,
arXiv:1706.02677, section 3, but that gradients are added, where they take means: our shares hold different
numbers of tokens. With dropout, each process draws masks of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from fedmedlora.model.slices import micro_batches
from fedmedlora.model.tokens import TokenExample
from fedmedlora.training.batches import by_prefix

# Numbers that travel together: a copy of them is made.
BUCKET = 25_000_000


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of every step this process takes: the ``rank``-th, from 0, of ``num``."""

    rank: int = 0
    num: int = 1

    def own(
        self, examples: Sequence[TokenExample], *, micro_batch: int, pass_tokens: int
    ) -> Sequence[TokenExample]:
        """This process's examples of a step; all of them where it is alone."""
        if self.num == 1:
            return examples
        return split_step(examples, self.num, micro_batch=micro_batch, pass_tokens=pass_tokens)[self.rank]

    @torch.no_grad()
    def add_up(self, parameters: Sequence[torch.nn.Parameter], loss: float) -> float:
        """The step's loss; the parameters' ``.grad`` become those of the whole step, the same everywhere.

        All processes have to call it, with the same parameters.
        """
        if self.num == 1:
            return loss
        from accelerate.utils import reduce

        for parameter in parameters:
            if parameter.grad is None:  # this process had no example that reaches it
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for bucket in buckets(gradients, BUCKET):
            flat = reduce(torch.cat([gradient.flatten() for gradient in bucket]), "sum")
            parts = flat.split([gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
        device = parameters[0].device
        return float(reduce(torch.tensor(loss, dtype=torch.float64, device=device), "sum"))


ALONE = Share()


def split_step(
    examples: Sequence[TokenExample], num: int, *, micro_batch: int, pass_tokens: int
) -> list[list[TokenExample]]:
    """``examples`` of one step in ``num`` parts that cost about the same, each example in one of them.

    What is dealt are forward passes, the dearest first, each to the part that has then the least to do; a
    part that has no pass of the same instruction yet has to run that too. Some parts may stay empty.
    """
    micro_batch = min(micro_batch, math.ceil(len(examples) / num))  # smaller passes rather than empty parts
    passes = [
        batch
        for group in by_prefix(examples).values()
        for batch in micro_batches(group, micro_batch, pass_tokens=pass_tokens)
    ]
    passes.sort(key=lambda batch: len(batch) * len(batch[0]), reverse=True)
    parts: list[list[TokenExample]] = [[] for _ in range(num)]
    costs = [0] * num
    prefixes: list[set[tuple[int, ...]]] = [set() for _ in range(num)]
    for batch in passes:
        prefix = batch[0].prefix
        with_it = [
            (cost + (0 if prefix in known else len(prefix)), number)
            for number, (cost, known) in enumerate(zip(costs, prefixes, strict=True))
        ]
        cost, number = min(with_it)
        costs[number] = cost + len(batch) * len(batch[0]) + pass_tokens
        prefixes[number].add(prefix)
        parts[number] += batch
    return parts


def buckets(tensors: Sequence[torch.Tensor], most: int) -> Iterator[list[torch.Tensor]]:
    """``tensors``, in order, in groups of at most ``most`` numbers; one that is larger is alone."""
    found: list[torch.Tensor] = []
    held = 0
    for tensor in tensors:
        if found and held + tensor.numel() > most:
            yield found
            found, held = [], 0
        found.append(tensor)
        held += tensor.numel()
    if found:
        yield found
