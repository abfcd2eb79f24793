"""``python -m fedmedlora.flower.superexec ARGUMENTS``: ``flower-superexec`` for a site.

ARGUMENTS are ``flower-superexec``'s own. A ClientApp is forked from a process that has everything imported
(``ready.py``) instead of started from nothing. Whatever else Flower would start is started as Flower does,
and so is a ClientApp where that process cannot be had: it is there for speed alone.
"""

from __future__ import annotations

import importlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor

PROGRAM = "flower-superexec"
READY = (sys.executable, "-m", "fedmedlora.flower.ready")


class Ready:
    """``ready.py``, running."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start ``command``, given the number of a pipe into which it writes when it is ready."""
        said, says = os.pipe()
        self._said = os.fdopen(said, "rb", buffering=0)
        self._process = subprocess.Popen(
            [*command, str(says)], stdin=subprocess.PIPE, bufsize=0, pass_fds=(says,)
        )
        os.close(says)
        self._was_ready: bool | None = None  # None: not known yet

    @property
    def was_ready(self) -> bool:
        """Wait until it is ready; False where it has ended before it was."""
        if self._was_ready is None:
            self._was_ready = self._said.read(1) != b""
        return self._was_ready

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.poll() is not None

    def fork(self, asked: dict[str, Any]) -> bool:
        """Have a ClientApp forked; False where it cannot be."""
        if not self.was_ready:
            return False
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        except OSError:
            return False
        return True

    def end(self) -> None:
        """End it. What it has forked goes on, and ends when SuperExec has ended."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._said.close()


class ReadyExecutor(SubprocessExecutor):
    """Flower's executor, but that ClientApps come from ``ready.py``, which ``command`` starts."""

    def __init__(self, command: Sequence[str] = READY) -> None:
        """``ready.py`` is started at once, so that it is ready when the first question comes."""
        self._command = command
        self._ready = Ready(command)

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Start the process that ``spec`` describes."""
        if spec.task_type != TaskType.CLIENT_APP or spec.runtime_dependency_install:
            return super().launch(spec)
        # One that never was ready lacks what it imports, and would lack it again.
        if self._ready.was_ready and self._ready.has_ended:
            self._ready.end()
            self._ready = Ready(self._command)
        is_taken = self._ready.fork({"arguments": arguments(spec), "silent": spec.suppress_output})
        return LaunchResult.accepted() if is_taken else super().launch(spec)

    def close(self) -> None:
        """SuperExec ends."""
        self._ready.end()


def arguments(spec: ExecutionSpec) -> list[str]:
    """What Flower's own executor gives ``flwr-clientapp`` (``subprocess_executor.py``)."""
    found = ["--runtime-api-address", spec.runtime_api_address, "--token", spec.token]
    if spec.insecure:
        found.append("--insecure")
    elif spec.root_certificates_path is not None:
        found += ["--root-certificates", spec.root_certificates_path]
    if spec.parent_pid is not None:
        found += ["--parent-pid", str(spec.parent_pid)]
    return found


def write_program(folder: Path) -> None:
    """Put a ``flower-superexec`` that starts this module into ``folder``, a new one for a PATH to begin with.

    A SuperNode starts its SuperExec by that name.
    """
    folder.mkdir(mode=0o700)
    program = folder / PROGRAM
    program.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m fedmedlora.flower.superexec "$@"\n',
        encoding="utf-8",
    )
    program.chmod(0o700)


def main() -> None:
    """Run until told to stop."""
    running: Any = importlib.import_module("flwr.supercore.superexec.run_superexec")
    program: Any = importlib.import_module("flwr.supercore.cli.flower_superexec")
    running.get_executor = lambda *_, **__: ReadyExecutor()
    sys.argv[0] = PROGRAM
    program.flower_superexec()


if __name__ == "__main__":
    main()
