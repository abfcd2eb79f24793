"""Linux's prctl(2), of which Python has nothing: how a process is called, and what ends it."""

from __future__ import annotations

import contextlib
import ctypes
import signal

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # linux/prctl.h


def end_with_parent() -> None:
    """Have this process told to end when the one that started it ends; that outlives exec. Linux only."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def call_process(name: str) -> None:
    """What `ps -o comm` and `top` call this process, 15 bytes of it. Linux only."""
    _prctl(_PR_SET_NAME, name.encode())


def _prctl(option: int, value: int | bytes) -> None:
    with contextlib.suppress(OSError, AttributeError):  # no prctl on this system
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
