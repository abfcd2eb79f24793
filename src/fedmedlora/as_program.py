"""How a module of this package is started as a program of its own."""

from __future__ import annotations

import sys


def as_program(module: str, python: str = sys.executable) -> tuple[str, ...]:
    """The command's beginning, for ``module`` of ``fedmedlora``, by the interpreter ``python``.

    With -P nothing is imported out of the folder that it is started in, which may be anybody's.
    """
    return python, "-P", "-m", f"fedmedlora.{module}"
