"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# Instructions that decide how fast matrices are multiplied.
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "liger-kernel",
    "bitsandbytes",
    "flwr",
    "numpy",
)


def describe(threads: int = 0) -> dict[str, Any]:
    """Processor, memory, versions, and the GPU where torch sees one."""
    import torch

    model, flags = _processor()
    found: dict[str, Any] = {
        "cpu": model,
        "flags": [name for name in FLAGS if name in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "python": platform.python_version(),
        "versions": {name: text for name in PACKAGES if (text := installed(name))},
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["gpu_memory_bytes"] = torch.cuda.get_device_properties(0).total_memory
        found["cuda"] = torch.version.cuda
    return found


def installed(package: str) -> str:
    """Its version, "" where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def words(machine: dict[str, Any]) -> str:
    """The machine in one line."""
    parts = [
        f"{machine['cpu']} ({', '.join(machine['flags']) or 'no wide vectors'})",
        f"{machine['cores']} cores, {machine['threads']} threads",
        f"{machine['memory_bytes'] / 2**30:.0f} GiB",
    ]
    if "gpu" in machine:
        parts.append(f"{machine['gpu']} ({machine['gpu_memory_bytes'] / 2**30:.0f} GiB)")
    versions = ", ".join(f"{name} {text}" for name, text in machine["versions"].items())
    return f"{'; '.join(parts)}; Python {machine['python']}, {versions}"


def fast_precision(device: str) -> str:
    """The precision that ``device`` multiplies fastest in."""
    if device == "cuda":
        return "bfloat16"
    return "bfloat16" if {"amx_bf16", "avx512_bf16"} & _processor()[1] else "float32"


def _processor() -> tuple[str, set[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), set()
    found: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return found.get("model name", platform.machine()), set(found.get("flags", "").split())
