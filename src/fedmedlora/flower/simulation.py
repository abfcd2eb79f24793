"""A study over Flower's simulation runtime (Ray), with a SuperLink of its own that ends with it."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedmedlora.flower.loopback import CONNECTION, Loopback
from fedmedlora.flower.state import SIGNS
from fedmedlora.flower.submit import Target, run_at
from fedmedlora.study import load_study


def run_simulation(
    study_file: Path,
    out: Path,
    *,
    resume: bool,
    command: tuple[str, ...],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Run the study on this machine, its sites in turn, and return its results.

    Raises ``ValueError`` where Ray is not installed, and for whatever is wrong with the study.
    """
    if importlib.util.find_spec("ray") is None:
        raise ValueError(
            "--carrier flower-simulation needs Ray: pip install 'fedmedlora[simulation]' (or take --carrier "
            "in-process, which gives the same adapters)"
        )
    study = load_study(study_file, sites_are_here=False)
    with (
        tempfile.TemporaryDirectory(prefix="fedmedlora-simulation-") as temporary,
        Loopback(Path(temporary), extra={"PYTHONWARNINGS": "ignore", SIGNS: "no"}) as loopback,
    ):
        loopback.start_superlink("--simulation")
        # All cores for one site at a time: simulated sites take turns, like real ones on one machine.
        config = f"num-supernodes={len(study.sites)} client-resources-num-cpus={os.cpu_count() or 1}"
        target = Target(CONNECTION, loopback.environment, config)
        return run_at(study_file, out, target, resume, 600.0, command, tell)
