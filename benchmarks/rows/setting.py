"""How the rows of one call are measured: the same for every row of it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMO = "smollm2-135m"
TITLES = {DEMO: "SmolLM2-135M", "llama-3-8b": "LLaMA-3-8B shape", "llama-3.2-1b": "LLaMA-3.2-1B shape"}


@dataclass(frozen=True, slots=True)
class Setting:
    """``device``: "cpu" or "cuda". ``smoke``: tiny random models and few sentences, to see that it runs.

    ``full``: every baseline over all sentences, and more repetitions. ``layers``: of the model, the first
    ones; 0: all. ``repetitions``: 0: as each row has it. ``threads``: of torch; 0: as it chooses.
    """

    device: str = "cpu"
    smoke: bool = False
    full: bool = False
    layers: int = 0
    repetitions: int = 0
    threads: int = 0

    @property
    def is_cpu(self) -> bool:
        return self.device == "cpu"

    def rounds(self) -> int:
        """Interleaved repetitions that count; one before them warms up."""
        if self.repetitions:
            return self.repetitions
        if self.smoke:
            return 1
        return 3 if self.full or not self.is_cpu else 2


def corpora_folder() -> Path:
    """Where the open corpora are, if they are anywhere."""
    return Path(os.environ.get("FEDMEDLORA_CORPORA", ROOT.parent / "shared" / "corpora"))


def say(text: str) -> None:
    """To the person who waits; the table goes to stdout."""
    print(text, file=sys.stderr, flush=True)
