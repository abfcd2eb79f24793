"""Devices by name, and how fast they are at training: the makers' numbers, and for this CPU a measurement."""

from __future__ import annotations

import os
import time
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fedmedlora.settings import nearest

CPU = "cpu"
# Of a GPU's peak, what training small batches of sentences is taken to reach. Not measured here.
GPU_SHARE = 0.3
# Of the rate of one large matrix product on a CPU, what a training step reaches: see docs/plan.md.
CPU_SHARES = {"float32": 0.65, "bfloat16": 0.2}
_SIZE = 1024  # rows and columns of that product


@dataclass(frozen=True, slots=True)
class Device:
    """``memory_bytes``: what it has. ``flop_s``: operations a second that training is reckoned with.

    ``speed``: where that number comes from, in a few words.
    """

    name: str
    title: str
    memory_bytes: int
    flop_s: float
    speed: str = ""

    @property
    def is_cpu(self) -> bool:
        """Whether it is no GPU."""
        return self.name == CPU


@cache
def known_devices() -> tuple[str, ...]:
    """Names that ``find_device`` takes."""
    return (*_table(), CPU)


def find_device(name: str, precision: str = "auto") -> Device:
    """The device ``name``, in capitals or not; of "cpu" this machine's own, measured in ``precision``, as
    [model] names it.

    Raises ``ValueError`` for another name.
    """
    table, asked, name = _table(), name, name.lower()
    if name == CPU:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        precision = "float32" if precision == "auto" else precision
        rate = CPU_SHARES[precision] * product_rate(precision)
        speed = f"{CPU_SHARES[precision]:.0%} of a matrix product, measured"
        return Device(CPU, f"this CPU, {os.cpu_count()} cores", pages * size, rate, speed)
    if name not in table:
        raise ValueError(
            f"--device {asked[:40]!r}: not known{nearest(name, known_devices())}; known are "
            f"{', '.join(known_devices())}"
        )
    found = table[name]
    return Device(
        name,
        str(found["title"]),
        round(float(found["memory_gb"]) * 1e9),
        GPU_SHARE * float(found["teraflop_s"]) * 1e12,
        f"{GPU_SHARE:.0%} of its peak, assumed",
    )


def product_rate(precision: str) -> float:
    """Operations a second of a matrix product here: the best of some, in a fraction of a second."""
    import torch

    from fedmedlora.model.load import PRECISIONS

    a, b = torch.ones(2, _SIZE, _SIZE, dtype=PRECISIONS[precision])
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2.0 * _SIZE**3 / best


@cache
def _table() -> dict[str, dict[str, str | float]]:
    return tomllib.loads((Path(__file__).parent / "devices.toml").read_text(encoding="utf-8"))
