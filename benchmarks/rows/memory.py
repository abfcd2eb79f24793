"""Peak memory of training on a GPU: the paper's batch, four rows of 800 tokens, r = 16.

What torch holds at its peak over two optimizer steps (``max_memory_reserved``: that is what the card has to
have, besides CUDA's own context), and what of it was in use. Padded rows, the plain way, are measured beside
it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from fedmedlora.model.load import BaseModel
from fedmedlora.model.memory import peak_memory_bytes
from fedmedlora.model.tokens import TokenExample
from fedmedlora.training.site import LocalTraining, gradient_checkpointing, optimizer_step
from rows.models import load, title, with_lora
from rows.row import Row, Spread, Target
from rows.setting import Setting, say

NUM_ROWS = 4
# Tokens of instruction, of a row's own input, and of its answer: 800 together.
BATCHES = {"modifiers": (700, 45, 55), "ner": (250, 250, 300)}


@dataclass(frozen=True, slots=True)
class Memory:
    """One measurement."""

    shape: str
    quantization: str
    checkpointing: bool
    most_gb: float
    precision: str = "bfloat16"

    def rows(self, setting: Setting) -> Iterator[Row]:
        base = load(self.shape, self.precision, setting, quantization=self.quantization)
        model = with_lora(base)
        if self.checkpointing:
            gradient_checkpointing(model, True)
        model.train()
        how = LocalTraining(num_rounds=1, micro_batch=NUM_ROWS)
        for task, tokens in BATCHES.items():
            some = rows_of(tokens, base)
            peaks = {"shared-prefix": peak(base, model, some, how, setting)}
            with suppress(torch.OutOfMemoryError):  # where the plain way does not fit, ours is told alone
                peaks["padded"] = peak(base, model, some, replace(how, batching="padded"), setting)
            say(f"  {task}: {peaks}")
            yield self.row(task, peaks, setting)

    def row(self, task: str, peaks: dict[str, dict[str, int]], setting: Setting) -> Row:
        held = peaks["shared-prefix"]["reserved_bytes"]
        other = peaks["padded"]["reserved_bytes"] if "padded" in peaks else None
        target = Target(most=self.most_gb, unit=" GB")
        kept = "gradient checkpointing" if self.checkpointing else "no checkpointing"
        against = "what does not fit on this GPU" if other is None else f"{other / 1e9:.2f} GB"
        return Row(
            f"peak memory of training, {NUM_ROWS} sentences of 800 tokens under the "
            f"{'NER' if task == 'ner' else 'modifier'} prompt, {kept}",
            "padded rows, the same",
            title(self.shape, self.precision, setting, self.quantization),
            None if other is None else Spread(*(other / held,) * 3),
            found=f"{held / 1e9:.2f} GB against {against}",
            target=target.words(),
            met=target.met(held / 1e9),
            details=peaks,
        )


def peak(
    base: BaseModel, model: Any, some: list[TokenExample], how: LocalTraining, setting: Setting
) -> dict[str, int]:
    """Bytes at the peak of two optimizer steps, and after the model was loaded."""
    model.zero_grad(set_to_none=True)
    gc.collect()
    loaded = 0
    if not setting.is_cpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        loaded = torch.cuda.memory_allocated()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    for _ in range(2):
        optimizer_step(base, model, some, how, optimizer, 0.0, ())
    if setting.is_cpu:
        used = peak_memory_bytes()
        return {"reserved_bytes": used, "allocated_bytes": used, "loaded_bytes": loaded}
    return {
        "reserved_bytes": torch.cuda.max_memory_reserved(),
        "allocated_bytes": torch.cuda.max_memory_allocated(),
        "loaded_bytes": loaded,
    }


def rows_of(tokens: tuple[int, int, int], base: BaseModel) -> list[TokenExample]:
    """Four made-up rows of ``tokens``: what is in them costs no memory."""
    prefix, prompt, target = tokens
    some = max(2, base.model.config.vocab_size - 1)

    def ids(num: int, start: int) -> tuple[int, ...]:
        return tuple((start + i) % some for i in range(num))

    return [
        TokenExample(
            None,  # type: ignore[arg-type]
            ids(prefix, 0),
            ids(prompt, number),
            ids(target, number + 7),
            ((),) * target,
        )
        for number in range(NUM_ROWS)
    ]
