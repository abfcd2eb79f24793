"""What padding costs in training: tokens computed over tokens needed, at the sites of a study file.

Rows behind an instruction are padded to the longest of their forward pass. Slices of ``micro_batch`` rows
are compared with slices cut so that padding and passes together cost least (``training/batches.py``).
Counted, not timed: the same numbers on every machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from fedmedlora.experiment import prepare, terms_of
from fedmedlora.local_site import local_training
from fedmedlora.model.load import load_base_model
from fedmedlora.model.slices import micro_batches, pass_tokens_of
from fedmedlora.study import load_study
from fedmedlora.study_runs import runs_of
from fedmedlora.training.batches import by_prefix
from fedmedlora.training.site import steps_of_round

FULL = 10**9  # a pass so dear that slices are as full as they may be


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--micro-batch", type=int, nargs="+", default=[4, 8, 16])
    args = parser.parse_args()
    study = runs_of(load_study(args.study))[0].study
    base = load_base_model(study.model_name())
    terms = terms_of(study, base)
    how = local_training(terms)
    print("| site | micro_batch | full slices | cut | passes a step, full | cut |\n|---|---|---|---|---|---|")
    for site in prepare(study, terms, base.encoder).sites:
        steps = [
            step
            for number in range(1, how.num_rounds + 1)
            for step in steps_of_round(site.examples, how, round_num=number, seed=study.seed, site=site.name)
        ]
        needed = sum(len(example) for step in steps for example in step)
        for size in args.micro_batch:
            found = []
            for passes in (FULL, pass_tokens_of(torch.device("cpu"))):
                slices = [
                    part
                    for step in steps
                    for group in by_prefix(step).values()
                    for part in micro_batches(group, size, pass_tokens=passes)
                ]
                found.append((sum(len(s) * len(s[0]) for s in slices) / needed, len(slices) / len(steps)))
            (full, full_passes), (cut, cut_passes) = found
            print(
                f"| {site.name} | {size} | {full:.2f} | {cut:.2f} | {full_passes:.1f} | {cut_passes:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
