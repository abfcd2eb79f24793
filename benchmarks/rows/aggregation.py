"""Averaging adapters: ``benchmarks/aggregation.py`` in a process of its own, and what it says as rows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rows.row import Row, Target, measured, ratios
from rows.setting import ROOT, Setting, say

SCRIPT = "benchmarks/aggregation.py"
HALF = Target(least=0.5)  # of what memory allows, by numpy's own sum


@dataclass(frozen=True, slots=True)
class Aggregation:
    """One call. ``layers``: of the adapter (LLaMA-3-8B's has 32). ``fold``: too many sites to hold."""

    sites: int
    layers: int
    fold: bool

    def rows(self, setting: Setting) -> Iterator[Row]:
        sites, layers = (4, 1) if setting.smoke else (self.sites, self.layers)
        arguments = ["--layers", str(layers), "--sites", str(sites), *(["--fold-only"] if self.fold else [])]
        say(f"  {SCRIPT} {' '.join(arguments)}")
        found = run([*arguments, "--json"])
        size = f"{found['adapter_bytes'] / 1e6:.0f} MB"
        if self.fold:
            yield self.folded(found, size)
        else:
            yield from compared(found["seconds"], found, size)

    def folded(self, found: Mapping[str, Any], size: str) -> Row:
        seconds = sum(found["seconds"]) + found["finish_seconds"]
        rate = found["sites"] * found["adapter_bytes"] / seconds / 1e9
        return Row(
            name=f"averaging {found['sites']} sites' adapters of {size}, one by one",
            against="",
            where="CPU",
            found=f"{rate:.2f} GB/s, peak memory {found['peak_bytes'] / 1e9:.2f} GB",
            details=dict(found),
        )


def compared(seconds: Mapping[str, Sequence[float]], found: Mapping[str, Any], size: str) -> Iterator[Row]:
    """One row for each pair of ways: adapters that are all there, and adapters that come one by one."""
    for part, limit, target in (
        ("all there", "array by array", HALF),
        ("all there", "Flower", Target()),
        ("one by one", "adapter by adapter", Target()),
        ("one by one", "Flower", Target()),
    ):
        ours, other = named(seconds, part), named(seconds, limit)
        yield measured(
            f"averaging {found['sites']} sites' adapters of {size}, {part}",
            other,
            "CPU",
            ratios(seconds[other], seconds[ours]),
            target=target,
            details={"seconds": dict(seconds), "adapter_bytes": found["adapter_bytes"]},
        )


def named(seconds: Mapping[str, Any], part: str) -> str:
    """The way whose name holds ``part``. Raises ``ValueError`` where none does."""
    for name in seconds:
        if part in name:
            return name
    raise ValueError(f"{SCRIPT} measured no way with {part!r} in its name: {', '.join(seconds)}")


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """The last line of the script's output, which is JSON."""
    done = subprocess.run(
        [sys.executable, str(ROOT / SCRIPT), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(f"{SCRIPT} {' '.join(arguments)} ended with status {done.returncode}")
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found
