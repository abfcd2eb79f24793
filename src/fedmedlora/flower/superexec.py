"""``python -m fedmedlora.flower.superexec ARGUMENTS``: ``flower-superexec`` for a site.

ARGUMENTS are ``flower-superexec``'s own. A ClientApp is forked from a process that has everything imported
(``ready.py``) instead of started from nothing. Whatever else Flower would start is started as Flower does,
and so is a ClientApp where that process cannot be had: it is there for speed alone.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult
from flwr.supercore.superexec.executor.subprocess_executor import SubprocessExecutor

from fedmedlora.as_program import as_program

PROGRAM = "flower-superexec"
READY = as_program("flower.ready")

log = logging.getLogger("fedmedlora")


class Ready:
    """``ready.py``, running."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start ``command``, given the number of a pipe into which it writes when it is ready."""
        said, says = os.pipe()
        self._said = os.fdopen(said, "rb", buffering=0)
        try:
            self._process = subprocess.Popen(
                [*command, str(says)], stdin=subprocess.PIPE, bufsize=0, pass_fds=(says,)
            )
        except OSError:
            self._said.close()
            raise
        finally:
            os.close(says)
        self._was_ready: bool | None = None  # None: not known yet

    @property
    def is_up(self) -> bool:
        """Wait until it is ready; False where it has ended, before or since."""
        if self._was_ready is None:
            self._was_ready = self._said.read(1) != b""
        return self._was_ready and self._process.poll() is None

    @property
    def was_killed(self) -> bool:
        """Once it is not up: whether that was none of its own doing."""
        return self._process.wait() < 0

    def fork(self, asked: dict[str, Any]) -> bool:
        """Have a ClientApp forked; False where it has ended."""
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
        """Nothing is started until the first question comes: many a site waits for weeks."""
        self._command = command
        self._ready: Ready | None = None
        self._cannot_be_had = False

    def launch(self, spec: ExecutionSpec) -> LaunchResult:
        """Start the process that ``spec`` describes."""
        if spec.task_type != TaskType.CLIENT_APP or spec.runtime_dependency_install:
            return super().launch(spec)
        self._keep_up()
        asked = {"arguments": arguments(spec), "silent": spec.suppress_output}
        if self._ready is not None and self._ready.is_up and self._ready.fork(asked):
            return LaunchResult.accepted()
        return super().launch(spec)

    def close(self) -> None:
        """SuperExec ends."""
        if self._ready is not None:
            self._ready.end()

    def _keep_up(self) -> None:
        """Start ``ready.py`` where it does not run, but not again where it has ended by itself: it lacks what
        it imports, and would lack it again."""
        if self._ready is None and not self._cannot_be_had:
            self._start()
        if self._ready is not None and not self._ready.is_up:
            was_killed, ended = self._ready.was_killed, self._ready
            ended.end()
            self._ready = None
            if was_killed:
                self._start()
            else:
                self._give_up("it ended")

    def _start(self) -> None:
        try:
            self._ready = Ready(self._command)
        except OSError as error:
            self._give_up(str(error.strerror))

    def _give_up(self, why: str) -> None:
        self._cannot_be_had = True
        log.warning("no process to fork ClientApps from (%s): each is started from nothing", why)


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


def install_superexec() -> None:
    """From now on a SuperNode of this process starts this SuperExec, and ends when that ends."""
    supernode: Any = importlib.import_module("flwr.supernode.start_client_internal")
    supernode.subprocess = SimpleNamespace(**{**vars(subprocess), "Popen": start_superexec})


def start_superexec(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start this module in place of ``command``, Flower's own, where processes can be forked."""
    if command[0] != PROGRAM:
        return subprocess.Popen(command)
    if sys.platform == "linux":  # elsewhere system libraries do not bear a fork, or there is none
        command = [*as_program("flower.superexec"), *command[1:]]
    process = subprocess.Popen(command)
    threading.Thread(target=_end_with, args=(process,), daemon=True).start()
    return process


def _end_with(process: subprocess.Popen[bytes]) -> None:
    """Flower does not look at its SuperExec again; without one a site takes questions and never answers."""
    status = process.wait()
    time.sleep(1.0)  # both may have been told to end
    if signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, None):  # Flower puts it back when it ends
        log.error("SuperExec ended with status %d, and with it this SuperNode, to be started again", status)
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run until told to stop."""
    running: Any = importlib.import_module("flwr.supercore.superexec.run_superexec")
    program: Any = importlib.import_module("flwr.supercore.cli.flower_superexec")
    if not hasattr(running, "get_executor"):
        log.warning("this Flower starts processes otherwise; each ClientApp is started from nothing")
    running.get_executor = lambda *_, **__: ReadyExecutor()
    sys.argv[0] = PROGRAM
    program.flower_superexec()


if __name__ == "__main__":
    main()
