"""Training on a CPU: float32, bfloat16 with fused attention, bfloat16 with attention in plain products.

The examples are those of the first steps at the first site of a study file, in steps of ``--examples``. The
three take turns on the same steps; ``ratio`` is over float32, medians over the steps, with their range.
Losses are compared too: bfloat16 rounds, and should do no more. The last columns are what ``fedmedlora plan``
reckons with: operations a second, and their share of the rate of a matrix product measured meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

from fedmedlora.experiment import prepare, terms_of
from fedmedlora.local_site import local_training, with_lora
from fedmedlora.model.load import load_base_model
from fedmedlora.model.memory import keep_freed_memory
from fedmedlora.model.tokens import TokenExample
from fedmedlora.plan.devices import product_rate
from fedmedlora.study import load_study
from fedmedlora.study_runs import runs_of
from fedmedlora.training.site import step_loss, steps_of_round

WAYS = (("float32", "sdpa"), ("bfloat16", "sdpa"), ("bfloat16", "eager"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--examples", type=int, default=8, help="in a step")
    args = parser.parse_args()
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    keep_freed_memory()
    study = runs_of(load_study(args.study))[0].study
    bases = {way: load_base_model(study.model_name(), precision=way[0]) for way in WAYS}
    for (_, kernel), base in bases.items():
        base.model.set_attn_implementation(kernel)
    base = bases[WAYS[0]]
    terms = terms_of(study, base)
    how = replace(local_training(terms), steps=args.steps + 1, examples_per_step=args.examples)
    site = prepare(study, terms, base.encoder).sites[0]
    steps = steps_of_round(site.examples, how, round_num=1, seed=study.seed, site=site.name)
    models = {way: with_lora(one, terms) for way, one in bases.items()}
    seconds: dict[tuple[str, str], list[float]] = {way: [] for way in WAYS}
    losses: dict[tuple[str, str], list[float]] = {way: [] for way in WAYS}
    rates: dict[tuple[str, str], list[float]] = {way: [] for way in WAYS}
    shares: dict[tuple[str, str], list[float]] = {way: [] for way in WAYS}

    def loss_of(way: tuple[str, str], step: list[TokenExample]) -> float:
        models[way].zero_grad(set_to_none=True)
        return step_loss(bases[way], models[way], step, how, backward=True)

    for number, step in enumerate(steps):
        with FlopCounterMode(display=False) as counter:
            loss_of(WAYS[0], step)
        for way in WAYS:
            began = time.perf_counter()
            loss = loss_of(way, step)
            took = time.perf_counter() - began
            if number:  # the first warms up
                seconds[way].append(took / len(step))
                losses[way].append(loss)
                rates[way].append(counter.get_total_flops() / took)
                shares[way].append(rates[way][-1] / product_rate(way[0]))
    print(f"{torch.get_num_threads()} threads, {args.steps} steps of {args.examples}")
    print(
        "| precision | attention | s an example | times as fast | loss differs by | 1e9 a s | of a product |"
        "\n|---|---|---|---|---|---|---|"
    )
    for way in WAYS:
        ratios = [a / b for a, b in zip(seconds[WAYS[0]], seconds[way], strict=True)]
        off = max(abs(a / b - 1) for a, b in zip(losses[WAYS[0]], losses[way], strict=True))
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        share = f"{statistics.median(shares[way]):.2f} ({min(shares[way]):.2f} to {max(shares[way]):.2f})"
        rate = f"{statistics.median(rates[way]) / 1e9:.0f}"
        print(
            f"| {way[0]} | {way[1]} | {statistics.median(seconds[way]):.3f} | {spread} | {off:.1e} | {rate} "
            f"| {share} |"
        )


if __name__ == "__main__":
    main()
