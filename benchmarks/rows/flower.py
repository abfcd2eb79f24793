"""A round over Flower on loopback: what it costs beside local training, and what a site sends and receives.

A SuperLink and two SuperNodes, a process for every message as in the field, no turns between the sites. Of
each round but the first: the time from the end of the round before to its own end, less the longest local
training. That is fixed: starting a process, loading the base model, reading the notes, sending, averaging.
From it the share at five minutes of training is computed; ``full`` trains five minutes and measures it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from fedmedlora.corpora.jsonl import write_notes
from fedmedlora.flower.loopback import CONNECTION, Loopback
from rows.machine import fast_precision
from rows.models import load
from rows.row import Row, Target, measured, spread
from rows.sentences import notes, source
from rows.setting import DEMO, TITLES, Setting, say

SITES = ("a", "b")
TRAINING_S = 300.0  # of local training, at which the target is asked
STUDY = """\
name = "Benchmark"
seed = 1
methods = ["fed_medlora"]
[model]
name = "{model}"
precision = "{precision}"
[adapter]
rank = 16
alpha = 32.0
[tasks]
names = ["ner"]
[training]
rounds = {rounds}
steps_per_round = {steps}
examples_per_step = {examples}
warmup_steps = 0
max_train_examples = {most}
[[sites]]
name = "a"
[[sites]]
name = "b"
"""
SITE = """\
name = "{name}"
train = "{name}.jsonl"
state = "state-{name}"
turn = "none"
[model]
name = "{model}"
precision = "{precision}"
"""


@dataclass(frozen=True, slots=True)
class Federation:
    """``steps``: optimizer steps of a round, of ``examples`` sentences each."""

    rounds: int
    steps: int
    examples: int


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds of a round from end to end, and of each site's training in it; bytes of each site."""

    seconds: float
    training_s: tuple[float, ...]
    upload_bytes: tuple[int, ...]
    download_bytes: tuple[int, ...]

    @property
    def fixed_s(self) -> float:
        """Outside local training: the sites train at the same time, so the longest is taken off."""
        return self.seconds - max(self.training_s)


@dataclass(frozen=True, slots=True)
class OverFlower:
    """One measurement: three rounds, two of which count; with ``full`` two, one of which does."""

    def rows(self, setting: Setting) -> Iterator[Row]:
        short = Federation(rounds=3, steps=1 if setting.smoke else 2, examples=4 if setting.smoke else 8)
        found = run(short, setting)
        yield computed(found, setting)
        if setting.full and not setting.smoke:
            step_s = max(found[-1].training_s) / short.steps
            long = Federation(rounds=2, steps=max(1, round(TRAINING_S / step_s)), examples=short.examples)
            say(f"  five minutes of training: {long.steps} steps of {step_s:.1f} s")
            yield trained(run(long, setting), setting)


def where(setting: Setting) -> str:
    model = "a tiny random model" if setting.smoke else TITLES[DEMO]
    return f"CPU, {model}, two sites on one machine, a core each"


def computed(found: Sequence[Round], setting: Setting) -> Row:
    """The share at five minutes, from the fixed cost of short rounds."""
    fixed = [one.fixed_s for one in found]
    share = spread([100 * one / (one + TRAINING_S) for one in fixed])
    return measured(
        "one round over Flower: percent of it outside local training, computed for five minutes of training",
        "local training alone",
        where(setting),
        share,
        target=Target(most=5.0, unit=" %"),
        found=f"{spread(fixed).median:.1f} s a round outside training "
        f"(measured beside {max(found[-1].training_s):.1f} s of training); {traffic(found)}",
        details=record(found, setting),
    )


def trained(found: Sequence[Round], setting: Setting) -> Row:
    """The share as it was, in rounds that train for five minutes."""
    share = spread([100 * one.fixed_s / one.seconds for one in found])
    return measured(
        "one round over Flower: percent of it outside local training, measured",
        "local training alone",
        where(setting),
        share,
        target=Target(most=5.0, unit=" %"),
        found=f"{max(found[-1].training_s):.0f} s of training; {traffic(found)}",
        details=record(found, setting),
    )


def traffic(found: Sequence[Round]) -> str:
    up, down = (max(values) / 1e6 for values in (found[-1].upload_bytes, found[-1].download_bytes))
    return f"{up:.1f} MB sent and {down:.1f} MB received per site and round"


def record(found: Sequence[Round], setting: Setting) -> dict[str, Any]:
    return {
        "seconds": [one.seconds for one in found],
        "training_s": [list(one.training_s) for one in found],
        "upload_bytes": list(found[-1].upload_bytes),
        "download_bytes": list(found[-1].download_bytes),
        "sentences": source(setting),
    }


def run(federation: Federation, setting: Setting) -> list[Round]:
    """Every round but the first of a run over Flower. Raises ``ValueError`` where it fails."""
    with tempfile.TemporaryDirectory() as name:  # it holds notes, and goes
        folder = Path(name)
        write_study(folder, federation, setting)
        env = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        with Loopback(folder / "flower", extra=env) as loopback:
            loopback.start_superlink("--database", str(folder / "superlink.db"))
            for site in SITES:
                loopback.start_supernode(folder / f"{site}.toml")
            out = folder / "run"
            command = [sys.executable, "-m", "fedmedlora", "run", str(folder / "study.toml")]
            command += ["--out", str(out), "--carrier", "flower", "--superlink", CONNECTION]
            done = subprocess.run(
                command, env=loopback.environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False
            )
            if done.returncode:
                raise ValueError(
                    f"the run over Flower ended with status {done.returncode}:\n{loopback.logs()}"
                )
        return rounds_of(out)


def write_study(folder: Path, federation: Federation, setting: Setting) -> None:
    """The study, its sites and their notes in ``folder``."""
    model, precision = DEMO, fast_precision("cpu")
    if setting.smoke:
        base = load(DEMO, "float32", setting)
        model, precision = "model", "float32"
        base.model.save_pretrained(folder / model)
        base.encoder.tokenizer.save_pretrained(folder / model)
    every = notes(setting, "train")
    for place, site in enumerate(SITES):
        some = every[place :: len(SITES)]
        header = {"name": site, "schema": "clinical", "synthetic": False}
        write_notes(folder / f"{site}.jsonl", some, header=header)
        text = SITE.format(name=site, model=model, precision=precision)
        (folder / f"{site}.toml").write_text(text, encoding="utf-8")
    text = STUDY.format(
        model=model,
        precision=precision,
        rounds=federation.rounds,
        steps=federation.steps,
        examples=federation.examples,
        most=max(64, federation.examples * 4),
    )
    (folder / "study.toml").write_text(text, encoding="utf-8")


def rounds_of(out: Path) -> list[Round]:
    """From a finished run: its records, and when each round was written."""
    (method,) = json.loads((out / "results.json").read_text(encoding="utf-8"))["methods"]
    written = sorted(out.rglob("round-*.json"))
    assert len(written) == len(method["rounds"]), "a record for each round"
    ends = [path.stat().st_mtime for path in written]
    return [
        Round(
            after - before,
            tuple(site["seconds"] for site in one["sites"]),
            tuple(site["upload_bytes"] for site in one["sites"]),
            tuple(site["download_bytes"] for site in one["sites"]),
        )
        for (before, after), one in zip(pairwise(ends), method["rounds"][1:], strict=True)
    ]
