"""A study over Flower's simulation runtime (Ray), with a SuperLink of its own that ends with it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fedmedlora.flower.state import STATE
from fedmedlora.flower.submit import QUIET, Target, program, run_at
from fedmedlora.study import load_study

START_S = 60.0


def run_simulation(
    study_file: Path,
    out: Path,
    *,
    resume: bool,
    command: tuple[str, ...],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Run the study on this machine over Flower's simulation runtime (Ray), sites taking turns.

    Starts a SuperLink in simulation mode for this run alone and stops it at the end.
    """
    study = load_study(study_file, sites_are_here=False)
    with _own_superlink(study_file.resolve().parent, len(study.sites)) as target:
        previous = os.environ.get(STATE)
        os.environ[STATE] = target.environment[STATE]
        try:
            return run_at(study_file, out, target, resume, 600.0, command, tell)
        finally:
            if previous is None:
                del os.environ[STATE]
            else:
                os.environ[STATE] = previous


@contextlib.contextmanager
def _own_superlink(study_folder: Path, num_sites: int) -> Iterator[Target]:
    """A SuperLink in simulation mode on a free port of this machine, with a state folder of its own."""
    if importlib.util.find_spec("ray") is None:
        raise ValueError(
            "--carrier flower-simulation needs Ray: pip install 'fedmedlora[simulation]' (or take --carrier "
            "in-process, which gives the same adapters)"
        )
    with tempfile.TemporaryDirectory(prefix="fedmedlora-simulation-") as temporary:
        home = Path(temporary)
        port = _free_port()
        address = f"127.0.0.1:{port}"
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "simulation"\n\n[superlink.simulation]\naddress = "{address}"\n'
            "insecure = true\n",
            encoding="utf-8",
        )
        environment = {
            **os.environ,
            **QUIET,
            # SuperLink looks for its own helpers there.
            "PATH": f"{Path(program('flower-superlink')).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "FLWR_HOME": str(home),
            STATE: str(home / "state"),
            "PYTHONWARNINGS": "ignore",
        }
        log = (home / "superlink.log").open("wb")
        process = subprocess.Popen(
            [
                program("flower-superlink"),
                "--insecure",
                "--simulation",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--disable-runtime-dependency-installation",
            ],
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            cwd=study_folder,
            start_new_session=True,
        )
        try:
            wait_until_up(address, process)
            # One actor at a time: simulated sites take turns, like real ones on one machine.
            num_cores = os.cpu_count() or 1
            config = f"num-supernodes={num_sites} client-resources-num-cpus={num_cores}"
            yield Target("simulation", environment, config)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            log.close()


def wait_until_up(address: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the SuperLink at ``address`` answers. Raises ``ValueError`` where it ends or does not."""
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
