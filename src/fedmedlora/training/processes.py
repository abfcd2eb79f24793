"""Other processes of this machine: their share of its cores, and what their end says."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of_each(num: int, environment: Mapping[str, str]) -> int:
    """Threads for each of ``num`` processes: its share of what ``OMP_NUM_THREADS`` says, or of the cores."""
    told = environment.get("OMP_NUM_THREADS", "")
    return max(1, (int(told) if told.isdecimal() and int(told) else num_cores()) // num)


def end_in_words(code: int, *, remedy: str = "") -> str:
    """What became of a process by its exit ``code``. ``remedy``: against too little memory."""
    if code >= 0:
        return f"ended with exit code {code}"
    killed = f" (SIGKILL: where memory ran out, by the system{remedy})"
    return f"was ended by signal {-code}{killed if -code == signal.SIGKILL else ''}"
