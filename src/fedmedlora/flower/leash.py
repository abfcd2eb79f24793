"""``python -m fedmedlora.flower.leash PROGRAM ARGUMENTS``: become PROGRAM, and end when the caller ends.

A supervisor that is killed outright cannot end what it started, and what is left would hold its port, or be
taken for the site's one connection. Linux can tie the two: prctl(2), PR_SET_PDEATHSIG, which outlives exec.
Elsewhere this starts the program and no more.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Never returns."""
    with contextlib.suppress(OSError, AttributeError):  # no prctl on this system
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
