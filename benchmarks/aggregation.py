"""Averaging adapters: bytes a second against numpy's own sum and Flower's FedAvg, and memory for many sites.

Adapters have the shapes of LLaMA-3-8B's with rank 16 on all seven projections (41.9 M parameters, 168 MB), or
a part of them. In one process, in turn: ``numpy.add`` of the sites' arrays in float32 (the limit that memory
sets), ``mean_of`` adapters that are all there, ``MeanSoFar`` of adapters that come one by one, and
``flwr``'s own weighted mean. ``--sites`` says how many; where memory does not hold them all, the same few
arrays stand for many sites, and only folding is measured, with the process's peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedmedlora.aggregation.at_once import mean_of, means_of
from fedmedlora.aggregation.one_by_one import MeanSoFar
from fedmedlora.exchange.adapter import Adapter

LAYERS, RANK = 32, 16
PROJECTIONS = {  # (d_out, d_in) of LLaMA-3-8B
    "q_proj": (4096, 4096), "k_proj": (1024, 4096), "v_proj": (1024, 4096), "o_proj": (4096, 4096),
    "gate_proj": (14336, 4096), "up_proj": (14336, 4096), "down_proj": (4096, 14336),
}  # fmt: skip
DISTINCT = 3  # adapters that stand for any number of sites


def shapes(num_layers: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for layer in range(num_layers):
        for name, (d_out, d_in) in PROJECTIONS.items():
            found[f"layers.{layer}.{name}.lora_A"] = (RANK, d_in)
            found[f"layers.{layer}.{name}.lora_B"] = (d_out, RANK)
    return found


def adapter(num_layers: int, seed: int) -> Adapter:
    rng = np.random.default_rng(seed)
    return Adapter(
        {
            name: 0.02 * rng.standard_normal(shape, dtype=np.float32)
            for name, shape in shapes(num_layers).items()
        }
    )


def numpy_sum(adapters: Sequence[Adapter], weights: Sequence[int]) -> None:
    for name in adapters[0].arrays:
        total = adapters[0].arrays[name].copy()
        for one in adapters[1:]:
            np.add(total, one.arrays[name], out=total)


def together(adapters: Sequence[Adapter], weights: Sequence[int]) -> None:
    for name in adapters[0].arrays:
        mean_of([one.arrays[name] for one in adapters], weights)


def one_by_one(adapters: Sequence[Adapter], weights: Sequence[int]) -> None:
    so_far = MeanSoFar(adapters[0].shapes())
    for one, weight in zip(adapters, weights, strict=True):
        so_far.add(one, weight)
    so_far.mean()


def flower(adapters: Sequence[Adapter], weights: Sequence[int]) -> None:
    from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    records = [
        RecordDict(
            {
                "arrays": ArrayRecord({name: Array(array) for name, array in one.arrays.items()}),
                "metrics": MetricRecord({"num-examples": weight}),
            }
        )
        for one, weight in zip(adapters, weights, strict=True)
    ]
    aggregate_arrayrecords(records, "num-examples")


WAYS: dict[str, Callable[[Sequence[Adapter], Sequence[int]], None]] = {
    "numpy.add, float32": numpy_sum,
    "all there (mean_of)": together,
    "one by one (MeanSoFar)": one_by_one,
    "Flower's FedAvg": flower,
}


def measure(adapters: Sequence[Adapter], weights: Sequence[int], repetitions: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(repetitions + 1):
        for name, way in WAYS.items():
            began = time.perf_counter()
            way(adapters, weights)
            if number:  # the first time around warms up
                found[name].append(time.perf_counter() - began)
    return found


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=LAYERS, help="of 32; fewer: a smaller adapter")
    parser.add_argument("--sites", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--fold-only", action="store_true", help="few arrays stand for many sites")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    weights = [1000 + 37 * number for number in range(args.sites)]
    distinct = [adapter(args.layers, seed) for seed in range(DISTINCT if args.fold_only else args.sites)]
    site_bytes = distinct[0].num_bytes
    result: dict[str, Any] = {"sites": args.sites, "adapter_bytes": site_bytes}
    if args.fold_only:
        began = time.perf_counter()
        so_far = MeanSoFar(distinct[0].shapes())
        for number, weight in enumerate(weights):
            so_far.add(distinct[number % DISTINCT], weight)
            if number % 100 == 99:
                print(f"{number + 1} sites", file=sys.stderr, flush=True)
        so_far.mean()
        seconds = time.perf_counter() - began
        result |= {"seconds": seconds, "peak_bytes": peak_bytes()}
        print(
            f"{args.sites} sites of {site_bytes / 1e6:.0f} MB: {seconds:.1f} s, "
            f"{args.sites * site_bytes / seconds / 1e9:.2f} GB/s, peak memory {peak_bytes() / 1e9:.2f} GB"
        )
    else:
        times = measure(distinct, weights, args.repetitions)
        limit = statistics.median(times["numpy.add, float32"])
        print("| way | s | GB/s of updates | of numpy's speed |\n|---|---|---|---|")
        for name, seconds in times.items():
            middle = statistics.median(seconds)
            ratios = sorted(a / b for a, b in zip(times["numpy.add, float32"], seconds, strict=True))
            print(
                f"| {name} | {middle:.3f} ({min(seconds):.3f} to {max(seconds):.3f}) "
                f"| {args.sites * site_bytes / middle / 1e9:.2f} "
                f"| {limit / middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
            )
        result |= {"seconds": times}
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
