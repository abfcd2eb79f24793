"""How a module of this package is started as a program of its own."""

from __future__ import annotations

import sys


def as_program(module: str, python: str | None = None) -> tuple[str, ...]:
    """The command's beginning, for ``module`` of ``fedmedlora``, by ``python`` or the interpreter of now.

    With -P nothing is imported out of the folder that it is started in, which may be anybody's.
    """
    return python or sys.executable, "-P", "-m", f"fedmedlora.{module}"
