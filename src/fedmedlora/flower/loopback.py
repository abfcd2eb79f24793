"""Flower's programs on this machine alone: a SuperLink on a free port of loopback, and SuperNodes.

For simulations, for trying a study before hospitals join, and for tests. Nothing here is encrypted and
nothing listens beyond this machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedmedlora.as_program import as_program
from fedmedlora.flower.state import STATE
from fedmedlora.flower.submit import QUIET, program

START_S = 60.0
STOP_S = 20.0
CONNECTION = "loopback"


@dataclass
class Loopback:
    """Programs started in ``folder``, which holds their logs, their state and Flower's own files.

    Use it as a context: what was started ends with it. ``python``: whose installed package they run.
    ``extra``: more of their environment.
    """

    folder: Path
    python: Path = Path(sys.executable)
    extra: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Loopback:
        """Nothing runs yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *exc: object) -> None:
        """End everything that was started."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    @property
    def environment(self) -> dict[str, str]:
        """In which ``fedmedlora run`` finds this SuperLink as ``CONNECTION``."""
        return {
            **os.environ,
            **QUIET,
            # SuperLink and SuperNode look for their own helpers there.
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "FLWR_HOME": str(self.folder / "flwr"),
            STATE: str(self.folder / "state"),
            **self.extra,
        }

    def start_superlink(self, *more: str) -> None:
        """Start a SuperLink and wait until it answers. Raises ``ValueError`` where it does not."""
        host, port = "127.0.0.1", free_port()
        self.address = f"{host}:{port}"
        home = self.folder / "flwr"
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
            f'address = "{self.address}"\ninsecure = true\n',
            encoding="utf-8",
        )
        process = self._start(
            "flower-superlink",
            self._program("flower-superlink"),
            "--insecure",
            "--host",
            host,
            "--port",
            str(port),
            "--disable-runtime-dependency-installation",
            *more,
        )
        _wait_until_up(self.address, process)

    def start_supernode(self, site_file: Path) -> subprocess.Popen[bytes]:
        """Start a SuperNode for the site of ``site_file``, as ``site_program.py`` starts it."""
        return self._start(
            "supernode",
            *as_program("flower.site_program", str(self.python)),
            "--site",
            str(site_file),
            "--insecure",
            "--superlink",
            self.address,
            "--port",
            str(free_port()),
        )

    def logs(self) -> str:
        """What all programs wrote."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')}" for file in files)

    def _program(self, name: str) -> str:
        beside = self.python.parent / name
        return str(beside) if beside.exists() else program(name)

    def _start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{len(self._processes)}-{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # so that its own children end with it
            )
        self._processes.append(process)
        return process


def _wait_until_up(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ValueError(f"flower-superlink ended with status {process.returncode} before it was up")
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"http://{address}/health", timeout=2),
        ):
            return
        time.sleep(0.2)
    raise ValueError(f"flower-superlink does not answer at {address} after {START_S:.0f} s")


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
