"""Training: examples per second of shared-prefix over padded batching, same loss, same memory settings.

One optimizer step is 32 sentences of the synthetic sites. Padded: micro-batches of 4, sorted by length, the
whole prompt in every row, a plain forward pass with logits at every position, as any trainer makes it.
``ratio_*`` is over that; ``ratio_*_same_head`` is over padded rows that also skip the logits nobody needs,
so that the shared prefix alone makes the difference. The bounds are ratios of operations (multiply-adds of
the linear layers, of the output head and of attention; backward is twice forward on both sides).

``--quick``: 6 layers, and padded batching on three of the eight micro-batches. Without it: the whole model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from rows.operations import bound

from fedmedlora.model.memory import keep_freed_memory

QUICK_LAYERS = 6
SENTENCES = 32
MICRO_BATCH = 4


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="6 layers, under two minutes on two cores")
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout")
    parser.add_argument("--repetitions", type=int, default=0, help="0: 2 if quick, else 3")
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0: as torch chooses")
    args = parser.parse_args()
    keep_freed_memory()
    found = benchmark(
        quick=args.quick, repetitions=args.repetitions or (2 if args.quick else 3), threads=args.threads
    )
    if args.json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            print(f"{key:<32}{value}")


def benchmark(*, quick: bool, repetitions: int, threads: int) -> dict[str, Any]:
    import torch

    from fedmedlora.model.cache import decoder
    from fedmedlora.model.load import load_base_model
    from fedmedlora.model.lora import attach_lora

    if threads:
        torch.set_num_threads(threads)
    base = load_base_model("smollm2-135m")
    if quick:
        stack = decoder(base.model)
        stack.layers = stack.layers[:QUICK_LAYERS]
        base.model.config.num_hidden_layers = QUICK_LAYERS
    model = attach_lora(base.model, rank=16, alpha=32)
    model.train()
    found: dict[str, Any] = {"num_layers": base.model.config.num_hidden_layers}
    differences = []
    for task in ("ner", "modifiers"):
        examples = sentences_of(task, base.encoder)
        result = measure(base, model, examples, quick=quick, repetitions=repetitions)
        differences.append(result.pop("loss_relative_difference"))
        result["bound"] = bound(base.model.config, examples, all_logits=True)
        result["bound_same_head"] = bound(base.model.config, examples, all_logits=False)
        result["prefix_tokens"] = len(examples[0].prefix)
        result["row_tokens"] = sum(map(len, examples)) / len(examples)
        for key, value in result.items():
            name = f"{key.removesuffix('_same_head')}_{task}" + ("_same_head" if "same_head" in key else "")
            found[name] = round(value, 3)
    found["loss_relative_difference"] = max(differences)
    found["num_threads"] = torch.get_num_threads()
    found["quick"] = quick
    return found


def sentences_of(task: str, encoder: Any) -> list[Any]:
    """32 sentences of the first synthetic site under the study prompt, all with one instruction."""
    from fedmedlora.corpora.schema import CLINICAL
    from fedmedlora.corpora.synthetic import HOSPITALS, synthesize
    from fedmedlora.tasks.training_set import training_set

    rendered = training_set(synthesize(HOSPITALS[3], 40, 0, "train"), CLINICAL, prompt_set="study")
    every = [e for e in rendered.examples[task] if 8 <= len(e.pieces) <= 40]
    chosen = every[:: max(1, len(every) // SENTENCES)][:SENTENCES]
    return [encoder.encode(e) for e in chosen]


def measure(
    base: Any, model: Any, examples: Sequence[Any], *, quick: bool, repetitions: int
) -> dict[str, float]:
    """Ratios (medians over interleaved repetitions) and the difference of the two losses."""
    from fedmedlora.training.batches import padded_step, shared_prefix_step

    ordered = sorted(examples, key=len, reverse=True)
    groups = [ordered[i : i + MICRO_BATCH] for i in range(0, len(ordered), MICRO_BATCH)]
    some = [e for group in (groups[1], groups[4], groups[6]) for e in group] if quick else ordered
    settings = {
        "pad_id": base.encoder.pad_id,
        "device": base.device,
        "micro_batch": MICRO_BATCH,
        "loss": "lm+decision",
        "decision_weight": 1.0,
    }

    def timed(step: Callable[..., float], what: Sequence[Any], **more: Any) -> tuple[float, float]:
        model.zero_grad(set_to_none=True)
        began = time.perf_counter()
        loss = step(model, what, **settings, **more)
        return time.perf_counter() - began, loss

    timed(shared_prefix_step, some)  # warm-up of both, and the same examples for the two losses
    difference = abs(timed(shared_prefix_step, some)[1] / timed(padded_step, some)[1] - 1)
    ratios, same_head = [], []
    for _ in range(repetitions):
        fast = timed(shared_prefix_step, ordered)[0] / len(ordered)
        plain = timed(padded_step, some)[0] / len(some)
        lean = timed(padded_step, some, needed_logits_only=True)[0] / len(some)
        ratios.append(plain / fast)
        same_head.append(lean / fast)
        say(f"seconds per example: shared {fast:.3f}, padded {plain:.3f}, padded, same head {lean:.3f}")
    return {
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "ratio_same_head": statistics.median(same_head),
        "loss_relative_difference": difference,
    }


if __name__ == "__main__":
    main()
