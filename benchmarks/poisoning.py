"""One bad site among honest ones: strict F1 under plain averaging and under rules that are to withstand it.

    python benchmarks/poisoning.py studies/poisoning.toml --out studies/runs/poisoning

Every rule among the study's methods is run with honest sites ("none"), and with one site that flips the sign
of what it changed ("sign"), sends ten times of it ("x10"; "-x10": with the sign flipped), or trains on labels
that are all wrong ("labels"). The model, the sites and their notes are those of the study. The bad site
trains as the others do; what it sends is changed on the way by a carrier around the carrier.

Nothing is computed twice: a site's update is kept by the adapter that it started from, so the first round is
trained once for all rules and attacks, and later ones wherever two of them come to the same adapter. Killed
at any moment and called again, it goes on. Prints a table as Markdown; ``OUT/poisoning.json`` holds it with
every count.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from attacks import flipped, scaled

from fedmedlora.cohort import Cohort, evaluate_cohort, reading_form
from fedmedlora.corpora.jsonl import NoteSet
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.change import Change
from fedmedlora.exchange.local import Local
from fedmedlora.in_process import InProcess
from fedmedlora.local_site import LocalSite, prepare_site, with_lora
from fedmedlora.methods import LABELS
from fedmedlora.model.load import BaseModel, load_base_model
from fedmedlora.model.lora import read_adapter
from fedmedlora.model.memory import keep_freed_memory
from fedmedlora.own_parts import OwnParts
from fedmedlora.prepare import Prepared, prepare, terms_of
from fedmedlora.progress import Silent
from fedmedlora.rounds import Carrier, SiteReport, run_rounds
from fedmedlora.run_folder import MethodFolder, UpdateCache, open_run, read_json, write_json
from fedmedlora.sites import Errand, Participants
from fedmedlora.study import Study, load_study
from fedmedlora.study_public import public_settings
from fedmedlora.terms import Terms

# (current, trained) -> what is sent instead.
Sent = Callable[[Adapter, Adapter], Adapter]

SENT: Mapping[str, Sent] = {
    "none": lambda current, trained: trained,
    "sign": partial(scaled, factor=-1.0),
    "x10": partial(scaled, factor=10.0),
    "-x10": partial(scaled, factor=-10.0),
    "labels": lambda current, trained: trained,
}
DEFAULT = ("none", "sign", "x10", "labels")


@dataclass(frozen=True)
class Poisoned:
    """A carrier that brings what another brings, one site's adapter excepted."""

    carrier: Carrier
    site: str
    sent: Sent

    def train(self, round_num: int, current: Adapter, change: Change | None = None) -> Iterator[SiteReport]:
        for report in self.carrier.train(round_num, current, change):
            if report.update.site == self.site:
                adapter = self.sent(current, report.update.adapter)
                yield replace(report, update=replace(report.update, adapter=adapter))
            else:
                yield report


@dataclass(frozen=True)
class Cell:
    """One rule under one attack. ``counts``: cohort -> strict tp, fp, fn; empty where training had to
    stop."""

    seed: int
    attack: str
    rule: str
    counts: dict[str, tuple[int, int, int]]
    figures: tuple[dict[str, float], ...]  # of each round
    weights: tuple[float, ...]  # of the bad site in each round
    stopped: str = ""

    def f1(self) -> float | None:
        """Micro strict F1 over all cohorts."""
        tp, fp, fn = (sum(one[i] for one in self.counts.values()) for i in range(3))
        return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None


@dataclass(frozen=True)
class Hall:
    """What is loaded once and used by every cell of a seed."""

    study: Study
    terms: Terms
    base: BaseModel
    model: Any
    start: Adapter
    prepared: Prepared
    folder: Path
    bad: str

    def sites(self, attack: str) -> InProcess:
        """The sites, of which the bad one trains on wrong labels if that is the attack."""
        local = self.prepared.sites
        if attack == "labels":
            local = tuple(self._mislabelled(one) if one.name == self.bad else one for one in local)
        return InProcess(
            self.base, self.model, self.prepared.schema, self.terms, local, self.start,
            OwnParts(self.folder / "own"),
        )  # fmt: skip

    def _mislabelled(self, site: LocalSite) -> LocalSite:
        notes = NoteSet(flipped(site.train_notes), {})
        schema = self.prepared.schema
        wrong = prepare_site(
            self.terms, self.base.encoder, schema, site.name, notes, None, source="flipped labels"
        )
        return replace(site, examples=wrong.examples)

    def cohorts(self) -> list[Cohort]:
        """All test notes, the sites' own among them."""
        own = [site.cohort for site in self.prepared.sites if site.cohort is not None]
        return [*own, *self.prepared.cohorts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", type=Path, help="study file; its methods are rules that need no validation")
    parser.add_argument("--out", type=Path, required=True, help="folder; what is in it is gone on with")
    parser.add_argument("--attacks", nargs="+", choices=list(SENT), default=list(DEFAULT))
    parser.add_argument("--bad", default="", help="name of the bad site; the last by name if none is given")
    args = parser.parse_args()
    keep_freed_memory()
    told = partial(print, file=sys.stderr, flush=True)
    cells = run(load_study(args.study), args.out, args.attacks, args.bad, told)
    print(table(cells, args.attacks))


def run(
    study: Study, out: Path, attacks: Sequence[str], bad: str = "", told: Callable[[str], None] = print
) -> list[Cell]:
    """All cells, one after the other; ``told`` hears of each. Raises ValueError for what cannot be run."""
    rules = study.rule_names()
    refused = [name for name in study.methods if name not in rules or study.rule(name).needs.validation]
    if refused:
        raise ValueError(f"methods: {refused[0]} cannot be attacked here; name rules that need no validation")
    base = load_base_model(study.model_name(), precision=study.model.precision)
    cells = []
    for seed in study.seeds or (study.seed,):
        hall = _hall(replace(study, seed=seed, seeds=()), base, out / f"seed-{seed}", bad)
        for attack in attacks:
            for rule in rules:
                began = time.perf_counter()
                cells.append(_cell(hall, attack, rule))
                found, seconds = cells[-1], time.perf_counter() - began
                what = found.stopped or f"F1 {_shown(found.f1())}"
                told(f"seed {seed}, {attack}, {rule}: {what} ({seconds:.0f} s)")
                write_json(out / "poisoning.json", [asdict(cell) | {"f1": cell.f1()} for cell in cells])
    return cells


def _hall(study: Study, base: BaseModel, folder: Path, bad: str) -> Hall:
    terms = terms_of(study, base)
    prepared = prepare(study, terms, base.encoder)
    model = with_lora(base, terms)
    names = sorted(site.name for site in prepared.sites)
    bad = bad or names[-1]
    if bad not in names:
        raise ValueError(f"--bad {bad}: no such site; there are {', '.join(names)}")
    identity = {
        "study_hash": study.study_hash(),
        "files": prepared.file_hashes,
        "base_model": base.hash,
        "bad": bad,
    }
    open_run(folder, identity, resume=(folder / "run.json").exists(), settings=public_settings(study))
    return Hall(study, terms, base, model, read_adapter(model), prepared, folder, bad)


def _cell(hall: Hall, attack: str, rule_name: str) -> Cell:
    rule = hall.study.rule(rule_name)
    if rule.local != Local():
        raise ValueError(f"methods: {rule_name} trains otherwise; name rules that differ in averaging alone")
    sites = hall.sites(attack)
    carrier = Poisoned(
        Participants(
            sites=sites,
            names=tuple(info.name for info in sites.infos),
            cache=UpdateCache(hall.folder / "updates"),
            errand=Errand(rule_name),
        ),
        hall.bad,
        SENT[attack],
    )
    where = hall.folder / "cells" / attack.replace("-", "minus-") / rule_name
    try:
        final, records = run_rounds(
            hall.start, rule, carrier, hall.study.training.rounds,
            store=MethodFolder(where), spill_to=where / "spilled",
        )  # fmt: skip
    except ValueError as error:  # a site that starts from what a bad one has made may find no way to train
        return Cell(hall.study.seed, attack, rule_name, {}, (), (), stopped=str(error))
    return Cell(
        hall.study.seed,
        attack,
        rule_name,
        {cohort.name: _counts(hall, final, cohort) for cohort in hall.cohorts()},
        tuple(record["figures"] for record in records),
        tuple(record["weights"][hall.bad] for record in records),
    )


def _counts(hall: Hall, adapter: Adapter, cohort: Cohort) -> tuple[int, int, int]:
    """Strict tp, fp and fn of entities, read once for each adapter."""
    path = hall.folder / "read" / f"{adapter.hash()[:32]}-{cohort.name}.json"
    record = read_json(path)
    if record is None:
        found = evaluate_cohort(
            hall.base, hall.model, adapter, cohort,
            reading_form(hall.terms, hall.prepared.schema, "constrained"),
            num_resamples=0, seed=0, label="", progress=Silent(),
        )  # fmt: skip
        record = found.record["scores"]["entities"]["strict"]
        write_json(path, record)
    return record["tp"], record["fp"], record["fn"]


def table(cells: Sequence[Cell], attacks: Sequence[str]) -> str:
    """Rules by attacks: strict F1 of entities over all cohorts, mean over seeds; the share of the change that
    the rank could not hold, mean over rounds; the bad site's weight in the last attack, mean over rounds."""
    rules = list(dict.fromkeys(cell.rule for cell in cells))
    lines = [
        f"| rule | {' | '.join(attacks)} | lost in refactoring |",
        f"|---|{'---|' * (len(attacks) + 1)}",
    ]
    for rule in rules:
        shown = []
        for attack in attacks:
            found = [cell.f1() for cell in cells if (cell.rule, cell.attack) == (rule, attack)]
            whole = None not in found
            shown.append(_shown(sum(filter(None, found)) / len(found)) if whole else "stopped")
        lost = [
            one["refactoring_error"]
            for cell in cells
            for one in cell.figures
            if cell.rule == rule and "refactoring_error" in one
        ]
        shown.append(f"{100 * sum(lost) / len(lost):.1f} %" if lost else "")
        lines.append(f"| {LABELS.get(rule, rule)} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _shown(f1: float | None) -> str:
    return "stopped" if f1 is None else f"{f1:.3f}"


if __name__ == "__main__":
    main()
