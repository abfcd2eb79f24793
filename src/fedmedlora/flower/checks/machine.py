"""What the machine has: disk, memory, GPU. ``fedmedlora plan`` says what a study will take."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from fedmedlora.flower.checks.finding import Finding
from fedmedlora.flower.site_file import SiteFile

DISK, MEMORY, GPU = "disk", "memory", "gpu"
LEAST_DISK_BYTES = 2_000_000_000  # adapters of a few rounds, logs, Flower's own files
LEAST_MEMORY_BYTES = 4_000_000_000  # a training step of the 135M model on a CPU
_GB = 1e9


def check_disk(site: SiteFile) -> Finding:
    """Free space where the site keeps its state."""
    place = site.path(site.state)
    while not place.exists():  # the folder is made at the first start
        place = place.parent
    free = shutil.disk_usage(place).free
    return enough_disk(free)


def enough_disk(free_bytes: int) -> Finding:
    """Whether ``free_bytes`` will do."""
    found = f"{free_bytes / _GB:.1f} GB free for the state folder"
    if free_bytes < LEAST_DISK_BYTES:
        least = f"{LEAST_DISK_BYTES / _GB:.0f} GB"
        return Finding(DISK, False, found, f"make room, {least} at least, or name another state folder")
    return Finding(DISK, True, found)


def check_memory() -> Finding:
    """The machine's memory."""
    return enough_memory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def enough_memory(total_bytes: int) -> Finding:
    """Whether ``total_bytes`` will do for the smallest study."""
    found = f"{total_bytes / _GB:.1f} GB"
    if total_bytes < LEAST_MEMORY_BYTES:
        return Finding(MEMORY, False, found, f"use a machine with {LEAST_MEMORY_BYTES / _GB:.0f} GB at least")
    return Finding(MEMORY, True, found, "`fedmedlora plan` says what a study with your base model takes")


def check_gpu(gpus: Sequence[tuple[str, int]]) -> Finding:
    """``gpus``: name and memory in bytes of each. None is in order: training then takes longer."""
    if not gpus:
        return Finding(GPU, True, "none; the CPU trains")
    return Finding(GPU, True, ", ".join(f"{name} ({size / _GB:.0f} GB)" for name, size in gpus))
