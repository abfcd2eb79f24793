"""Validation losses of K adapters in one pass over the notes, against K passes: the cost of Fed-MedLoRA+.

The base model is in memory once in both. Repetitions are interleaved; ratios are medians with their range.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from training import sentences_of

from fedmedlora.model.memory import keep_freed_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, nargs="+", default=[3, 10], help="numbers of adapters")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--micro-batch", type=int, default=4, help="examples in a forward pass")
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout")
    args = parser.parse_args()
    keep_freed_memory()
    cases = [(num, task) for num in args.sites for task in ("ner", "modifiers")]
    rows = [measure(num, task, args.micro_batch, args.repetitions) for num, task in cases]
    if args.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            print("  ".join(f"{key} {value}" for key, value in row.items()))


def measure(num: int, task: str, micro_batch: int, repetitions: int) -> dict[str, Any]:
    """``ratio``: time of ``num`` passes over that of one with ``num`` adapters."""
    from fedmedlora.exchange.adapter import Adapter
    from fedmedlora.model.load import load_base_model
    from fedmedlora.model.lora import attach_lora, read_adapter
    from fedmedlora.training.site import LocalTraining, validation_loss
    from fedmedlora.training.validation import validation_losses

    base = load_base_model("smollm2-135m")
    model = attach_lora(base.model, rank=16, alpha=32)
    start = read_adapter(model)
    rng = np.random.default_rng(0)
    adapters = [
        Adapter({n: rng.normal(0, 0.01, a.shape).astype(np.float32) for n, a in start.arrays.items()})
        for _ in range(num)
    ]
    examples = sentences_of(task, base.encoder)
    settings = LocalTraining(num_rounds=1, micro_batch=micro_batch)

    def timed(losses: Callable[[], Sequence[float]]) -> tuple[float, Sequence[float]]:
        began = time.perf_counter()
        found = losses()
        return time.perf_counter() - began, found

    def together() -> Sequence[float]:
        return validation_losses(base, model, adapters, examples, settings)

    def alone() -> Sequence[float]:
        return [validation_loss(base, model, adapter, examples, settings) for adapter in adapters]

    difference = max(abs(a / b - 1) for a, b in zip(together(), alone(), strict=True))  # and a warm-up
    ratios, seconds = [], []
    for _ in range(repetitions):
        fast, slow = timed(together)[0], timed(alone)[0]
        ratios.append(slow / fast)
        seconds.append(fast)
        line = f"{num} adapters, {task}: {fast:.2f} s together, {slow:.2f} s alone"
        print(line, file=sys.stderr, flush=True)
    return {
        "num_adapters": num,
        "task": task,
        "ratio": round(statistics.median(ratios), 2),
        "ratio_low": round(min(ratios), 2),
        "ratio_high": round(max(ratios), 2),
        "seconds": round(statistics.median(seconds), 2),
        "loss_relative_difference": difference,
        "device": base.device_name(),
    }


if __name__ == "__main__":
    main()
