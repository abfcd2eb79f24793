"""Averaging adapters: bytes a second against numpy's own sum and Flower's FedAvg, and memory for many sites.

Adapters have the shapes of LLaMA-3-8B's with rank 16 on all seven projections (41.9 M parameters, 168 MB), or
a part of them. In one process, in turn: ``numpy.add`` of the sites' arrays in float32, array by array and
adapter by adapter (the limits that memory sets for adapters that are all there, and for those that come one
by one), ``means_of`` adapters that are all there, ``MeanSoFar`` of adapters that come one by one, and
``flwr``'s own weighted mean. Shown in wall time and in processor time, which other programs on the machine
disturb less; the floor is what has to pass between memory and processor for one float32 of one site, were
there nothing else to do.

``--fold-only``: any number of sites, each made from its own seed when its turn comes and freed after the
fold, through the rule Fed-MedLoRA as a run does it. Prints the time of a fold and the process's peak memory.
``--together``: the same for Fed-MedLoRA+, which needs all updates: those that memory should not hold are on
the disk, in the folder that ``TMPDIR`` names.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fedmedlora.aggregation.at_once import means_of
from fedmedlora.aggregation.one_by_one import MeanSoFar
from fedmedlora.aggregation.rule import load_rule
from fedmedlora.aggregation.threads import num_cores
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.spill import spilling
from fedmedlora.exchange.update import SiteUpdate

LAYERS, RANK = 32, 16
PROJECTIONS = {  # (d_out, d_in) of LLaMA-3-8B
    "q_proj": (4096, 4096), "k_proj": (1024, 4096), "v_proj": (1024, 4096), "o_proj": (4096, 4096),
    "gate_proj": (14336, 4096), "up_proj": (14336, 4096), "down_proj": (4096, 14336),
}  # fmt: skip


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


def array_by_array(adapters: Sequence[Adapter], weights: Sequence[int]) -> None:
    for name in adapters[0].arrays:
        total = adapters[0].arrays[name].copy()
        for one in adapters[1:]:
            np.add(total, one.arrays[name], out=total)


def adapter_by_adapter(adapters: Sequence[Adapter], weights: Sequence[int]) -> None:
    totals = {name: array.copy() for name, array in adapters[0].arrays.items()}
    for one in adapters[1:]:
        for name, array in one.arrays.items():
            np.add(totals[name], array, out=totals[name])


def together(adapters: Sequence[Adapter], weights: Sequence[int]) -> None:
    means_of([one.arrays for one in adapters], weights)


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
    "numpy.add, array by array": array_by_array,
    "all there (means_of)": together,
    "numpy.add, adapter by adapter": adapter_by_adapter,
    "one by one (MeanSoFar)": one_by_one,
    "Flower's FedAvg": flower,
}


def floor_bytes(way: str, num_sites: int) -> float:
    """Bytes to and from memory for one float32 of one site: it is read; of the result, its share of all sites
    is written; and what is too large for the cache and is added to is read and written for every site."""
    result = 4 / num_sites
    added_to = {"numpy.add, adapter by adapter": 2 * 4, "one by one (MeanSoFar)": 2 * 16}.get(way, 0)
    return 4 + result + added_to


def measure(
    adapters: Sequence[Adapter], weights: Sequence[int], repetitions: int
) -> dict[str, list[tuple[float, float]]]:
    """Way -> (wall time, processor time) of each repetition, s."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for number in range(repetitions + 1):
        for name, way in WAYS.items():
            began, worked = time.perf_counter(), time.process_time()
            way(adapters, weights)
            if number:  # the first time around warms up
                found[name].append((time.perf_counter() - began, time.process_time() - worked))
    return found


def compare(args: argparse.Namespace) -> dict[str, Any]:
    adapters = [adapter(args.layers, seed) for seed in range(args.sites)]
    weights = [1000 + 37 * number for number in range(args.sites)]
    num_bytes = args.sites * adapters[0].num_bytes
    times = measure(adapters, weights, args.repetitions)
    print(
        f"{args.sites} sites of {adapters[0].num_bytes / 1e6:.0f} MB, {num_cores()} threads at most\n\n"
        "| way | s | GB/s of updates | of numpy's speed, array by array | the same in processor time "
        "| floor, bytes a float32 |\n|---|---|---|---|---|---|"
    )
    limits = times["numpy.add, array by array"]
    for name, found in times.items():
        wall = [seconds for seconds, _ in found]
        middle = statistics.median(wall)
        ratios, worked = (
            sorted(limit[kind] / one[kind] for limit, one in zip(limits, found, strict=True))
            for kind in (0, 1)
        )
        print(
            f"| {name} | {middle:.3f} ({min(wall):.3f} to {max(wall):.3f}) | {num_bytes / middle / 1e9:.2f} "
            f"| {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) "
            f"| {statistics.median(worked):.2f} ({worked[0]:.2f} to {worked[-1]:.2f}) "
            f"| {floor_bytes(name, args.sites):.1f} |"
        )
    seconds = {name: [wall for wall, _ in found] for name, found in times.items()}
    worked = {name: [processor for _, processor in found] for name, found in times.items()}
    return {"seconds": seconds, "processor_seconds": worked, "adapter_bytes": adapters[0].num_bytes}


def updates(current: Adapter, num_sites: int) -> Iterator[SiteUpdate]:
    """One at a time, a site's own values from its seed: cheap ones, a stretch of the same noise, scaled."""
    noise = 0.02 * np.random.default_rng(0).standard_normal(
        current.num_parameters + (1 << 20), dtype=np.float32
    )
    started_from, sizes = current.hash(), current.shapes()
    for site in range(num_sites):
        rng = np.random.default_rng(site)
        start, scale = int(rng.integers(1 << 20)), np.float32(rng.uniform(0.5, 1.5))
        arrays = {}
        for name, shape in sizes.items():
            stop = start + int(np.prod(shape))
            arrays[name] = (noise[start:stop] * scale).reshape(shape)
            start = stop
        made = Adapter(arrays)
        del arrays
        yield SiteUpdate(f"site-{site:04d}", 1, made, started_from, 1000 + 37 * site)
        del made


def many(args: argparse.Namespace) -> dict[str, Any]:
    current = adapter(args.layers, 0)
    seconds, worked = [], []
    rule = load_rule("fed_medlora_plus" if args.together else "fed_medlora")
    fold = rule.fold(current)
    with spilling(None) as keep:
        kept = []
        for number, update in enumerate(updates(current, args.sites)):
            began, before = time.perf_counter(), time.process_time()
            if fold is None:
                kept.append(keep(replace(update, validation_loss=0.5)))
            else:
                fold.add(update)
            seconds.append(time.perf_counter() - began)
            worked.append(time.process_time() - before)
            del update
            if number % 100 == 99:
                print(
                    f"{number + 1} sites, peak memory {peak_bytes() / 1e9:.2f} GB",
                    file=sys.stderr,
                    flush=True,
                )
        began = time.perf_counter()
        if fold is None:
            rule.aggregate(current, kept)
        else:
            fold.finish()
        finish_seconds = time.perf_counter() - began
    print(
        f"{args.sites} sites of {current.num_bytes / 1e6:.0f} MB: {statistics.median(seconds):.3f} s each "
        f"({min(seconds):.3f} to {max(seconds):.3f}), {statistics.median(worked):.3f} s of processor time; "
        f"{finish_seconds:.2f} s at the end; peak memory {peak_bytes() / 1e9:.2f} GB"
    )
    return {
        "seconds": seconds,
        "finish_seconds": finish_seconds,
        "peak_bytes": peak_bytes(),
        "adapter_bytes": current.num_bytes,
    }


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=LAYERS, help="of 32; fewer: a smaller adapter")
    parser.add_argument("--sites", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--fold-only", action="store_true", help="made one by one, folded in and freed")
    parser.add_argument(
        "--together", action="store_true", help="made one by one, needed all: kept on the disk"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result: dict[str, Any] = {"sites": args.sites, "layers": args.layers}
    result |= many(args) if args.fold_only or args.together else compare(args)
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
