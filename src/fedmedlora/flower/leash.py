"""``python -m fedmedlora.flower.leash PROGRAM ARGUMENTS``: become PROGRAM, and end when the caller ends.

A supervisor that is killed outright cannot end what it started, and what is left would hold its port, or be
taken for the site's one connection. Linux can tie the two: ``prctl.py``.
Elsewhere this starts the program and no more.
"""

from __future__ import annotations

import os
import sys

from fedmedlora.flower.prctl import end_with_parent


def main() -> None:
    """Never returns."""
    end_with_parent()
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
