"""Peak memory of a round of training: what `fedmedlora plan` predicts against what a fresh process takes.

Each case trains a few steps in a process of its own, on made-up examples of given lengths, and reports the
peak: on a CPU the resident memory of the process, on a GPU what torch has allocated. Memory, unlike time, is
not disturbed by whatever else the machine does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

MODEL = "smollm2-135m"
# tokens: of instruction, prompt and target; num_layers: fewer than the model has
CASES: list[dict[str, Any]] = [
    {"name": "4 rows", "micro_batch": 4, "tokens": [250, 35, 45]},
    {"name": "8 rows", "micro_batch": 8, "tokens": [250, 35, 45]},
    {"name": "4 long rows", "micro_batch": 4, "tokens": [250, 150, 180]},
    {"name": "16 rows, modifier prompt", "micro_batch": 16, "tokens": [700, 35, 45]},
    {"name": "4 rows, padded", "micro_batch": 4, "tokens": [250, 35, 45], "batching": "padded"},
    {
        "name": "4 long rows, modifier prompt, checkpointing",
        "micro_batch": 4,
        "tokens": [700, 150, 180],
        "gradient_checkpointing": True,
    },
    {
        "name": "8 rows, checkpointing",
        "micro_batch": 8,
        "tokens": [250, 35, 45],
        "gradient_checkpointing": True,
    },
    {"name": "6 layers, 8 rows", "micro_batch": 8, "tokens": [250, 35, 45], "num_layers": 6},
    {"name": "4 rows, rank 64", "micro_batch": 4, "tokens": [250, 35, 45], "rank": 64},
    {"name": "4 rows, all parameters", "micro_batch": 4, "tokens": [250, 35, 45], "trains": "model"},
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of cases, from 0")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(trained(json.loads(args.case))))
        return
    cases = [case for i, case in enumerate(CASES) if args.only is None or i in args.only]
    rows = [compared(case) for case in cases]
    if args.json:
        print(json.dumps(rows))
        return
    print("| case | measured | predicted | predicted / measured |\n|---|---|---|---|")
    for row in rows:
        sizes = [f"{row[key] / 1e9:.2f} GB" for key in ("measured_bytes", "predicted_bytes")]
        print(f"| {row['name']} | {' | '.join(sizes)} | {row['ratio']:.3f} |")


def compared(case: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    predicted = predict(case, measured)
    print(case["name"], measured, f"{predicted / measured['peak_bytes']:.3f}", file=sys.stderr, flush=True)
    return {
        "name": case["name"],
        "measured_bytes": measured["peak_bytes"],
        "predicted_bytes": predicted,
        "ratio": predicted / measured["peak_bytes"],
        "device": measured["device"],
    }


def settings_of(case: dict[str, Any]) -> Any:
    import torch

    from fedmedlora.model.slices import pass_tokens_of
    from fedmedlora.training.site import LocalTraining

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return LocalTraining(
        num_rounds=1,
        examples_per_step=2 * case["micro_batch"],
        micro_batch=case["micro_batch"],
        steps=3,
        batching=case.get("batching", "shared-prefix"),
        gradient_checkpointing=case.get("gradient_checkpointing", False),
        pass_tokens=pass_tokens_of(device),  # the prediction is made on another device, for this one
    )


def examples_of(case: dict[str, Any]) -> list[Any]:
    """Three steps of examples, the first of them the longest."""
    from fedmedlora.model.tokens import TokenExample

    prefix, prompt, target = case["tokens"]
    found: list[Any] = []
    for number in range(6 * case["micro_batch"]):
        shorter = number % 5 if number >= case["micro_batch"] else 0
        ids = tuple(range(1, target - shorter + 1))
        choices = tuple((i, i + 1, i + 2) if i % 2 else () for i in ids)
        found.append(TokenExample(None, tuple(range(prefix)), tuple(range(prompt)), ids, choices))  # type: ignore[arg-type]
    return found


def trained(case: dict[str, Any]) -> dict[str, Any]:
    """In a fresh process: bytes before the model, and at the peak."""
    from fedmedlora.model.memory import keep_freed_memory, peak_memory_bytes

    keep_freed_memory()
    import peft  # noqa: F401
    import torch

    from fedmedlora.exchange.local import Local
    from fedmedlora.model.cache import decoder
    from fedmedlora.model.load import load_base_model
    from fedmedlora.model.lora import attach_lora
    from fedmedlora.model.weights import read_weights
    from fedmedlora.plan.memory import process_bytes
    from fedmedlora.training.site import train_round

    before = process_bytes()
    base = load_base_model(MODEL, precision=case.get("precision", "auto"))
    if case.get("num_layers"):
        stack = decoder(base.model)
        stack.layers = stack.layers[: case["num_layers"]]
        base.model.config.num_hidden_layers = case["num_layers"]
    model = attach_lora(base.model, rank=case.get("rank", 16), alpha=32)
    trains = case.get("trains", "both")
    start = read_weights(model, whole=trains == "model")
    local = Local(trains=trains, sends=trains)
    result = train_round(
        base, model, start, examples_of(case), settings_of(case), site="a", round_num=1, seed=0, local=local
    )
    on_gpu = torch.cuda.is_available()
    return {
        "before_bytes": 0 if on_gpu else before,
        "peak_bytes": result.peak_memory_bytes if on_gpu else peak_memory_bytes(),
        "device": base.device_name(),
        "precision": base.precision,
    }


def predict(case: dict[str, Any], measured: dict[str, Any]) -> int:
    from fedmedlora.plan.memory import on_device
    from fedmedlora.plan.shapes import find_config, meta_base, shape_model
    from fedmedlora.plan.trace import trace_step
    from fedmedlora.study_tables import Lora

    found = find_config(MODEL)
    if case.get("num_layers"):
        found.config.num_hidden_layers = case["num_layers"]
    shapes = shape_model(found, Lora(rank=case.get("rank", 16), alpha=32.0), measured["precision"])
    examples = examples_of(case)[: 2 * case["micro_batch"]]
    trace = trace_step(
        meta_base(shapes), shapes.model, examples, settings_of(case), case.get("trains", "both")
    )
    is_cpu = measured["device"] == "cpu"
    return on_device(trace, is_cpu=is_cpu, process=measured["before_bytes"], context=False)


if __name__ == "__main__":
    main()
