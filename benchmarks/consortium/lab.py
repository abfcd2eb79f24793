"""One trial: a coordinator and its sites as a user starts them, each in its own namespace; and who is who.

Programs are `fedmedlora coordinator start` and `fedmedlora site start` of kits that `fedmedlora provision`
made. What died is started again as a service manager would, with the same command.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from consortium.network import COORDINATOR_ADDRESS, MEETING_ADDRESS, Network

PORT = 8443
SMALL_DISK_MB = 400
FEDMEDLORA = (sys.executable, "-m", "fedmedlora")
# How a command line tells the programs apart. ``{host}``'s own are those in its namespace.
PROGRAMS = {
    "coordinator": "coordinator start",
    "SuperLink": "fedmedlora.flower.superlink",
    "ServerApp": "flwr-serverapp",
    "site": "site start",
    "SuperNode": "fedmedlora.flower.site_program",
    "SuperExec": "fedmedlora.flower.superexec",
    "ready": "fedmedlora.flower.ready",  # what ClientApps are forked from: their command line too
    "ClientApp": "flwr-clientapp",
}


@dataclass
class Lab:
    """The programs of one trial in ``folder``, which holds ``kits/`` and ``study.toml``.

    ``more``: host -> variables that its programs are given besides ``environment``.
    """

    folder: Path
    network: Network
    environment: Mapping[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    more: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """The run's folder."""
        return self.folder / "run"

    def kit(self, host: str) -> Path:
        """The kit of ``host``."""
        return self.folder / "kits" / host

    def start(self, host: str) -> None:
        """What ``host`` runs."""
        if host == "wan":
            script = str(Path(__file__).with_name("forwarder.py"))
            ends = (f"{MEETING_ADDRESS}:{PORT}", f"{COORDINATOR_ADDRESS}:{PORT}")
            command: tuple[str, ...] = (sys.executable, script, *ends, "20")
        elif host == "coordinator":
            study, out = str(self.folder / "study.toml"), str(self.out)
            file = str(self.kit(host) / "coordinator.toml")
            command = (*FEDMEDLORA, "coordinator", "start", file, "--study", study, "--out", out)
        else:
            command = (*FEDMEDLORA, "site", "start", str(self.kit(host) / "site.toml"))
        with (self.folder / f"{host}.txt").open("ab") as said:
            self.running[host] = subprocess.Popen(
                self.network.command(host, command),
                env={**self.environment, **self.more.get(host, {})},
                stdout=said,
                stderr=said,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def said(self, host: str) -> str:
        """What the programs of ``host`` have told a person."""
        return (self.folder / f"{host}.txt").read_text(errors="replace")

    def pids(self, host: str, program: str) -> list[int]:
        """Processes of ``program`` (a key of ``PROGRAMS``) at ``host``."""
        words = PROGRAMS[program]
        found = []
        for pid in self._pids_at(host):
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                is_clientapp = Path(f"/proc/{pid}/comm").read_text().strip() == PROGRAMS["ClientApp"]
                found_it = program == "ClientApp" if is_clientapp else words in line
                if found_it and "ip netns exec" not in line:
                    found.append(pid)
        return found

    def kill(self, host: str, program: str) -> int:
        """SIGKILL to ``program`` at ``host``; how many processes that were."""
        pids = self.pids(host, program)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def keep_up(self) -> None:
        """Start again what a service manager would: coordinator and sites that ended by a signal."""
        for host, process in list(self.running.items()):
            if process.poll() is not None and process.returncode < 0:
                self.start(host)

    def wait(self, condition: Callable[[], bool], limit_s: float, poll_s: float = 0.2) -> bool:
        """Until ``condition``, keeping everything up; whether it came true in ``limit_s`` seconds."""
        deadline, looked = time.monotonic() + limit_s, 0.0
        while not condition():
            now = time.monotonic()
            if now > deadline:
                return False
            if now - looked > 0.5:
                looked = now
                self.keep_up()
            time.sleep(poll_s)
        return True

    def stop(self) -> None:
        """End everything in all namespaces."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
        for host in ("coordinator", "wan", *self.network.sites):
            for pid in self._pids_at(host):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.running.clear()

    def _pids_at(self, host: str) -> list[int]:
        found = subprocess.run(
            ["ip", "netns", "pids", f"fml-{host}"], capture_output=True, text=True, check=True
        )
        return [int(pid) for pid in found.stdout.split()]


@contextlib.contextmanager
def lab(
    made: Path,
    folder: Path,
    network: Network,
    *,
    rounds: str = "",
    clock_s: int = 0,
    disks: Sequence[Path] = (),
) -> Iterator[Lab]:
    """A trial in the new folder ``folder``, with kits and study from ``made``; everything runs within.

    ``rounds``: instead of the study's ``quorum = 1.0``. ``clock_s``: how far the first site's clock is
    off. ``disks``: folders that are small disks of their own.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made, folder, symlinks=True)
    if rounds:
        study = folder / "study.toml"
        study.write_text(study.read_text().replace("quorum = 1.0", rounds))
    environment = {
        **{k: v for k, v in os.environ.items() if k in ("PATH", "PYTHONPATH", "FEDMEDLORA_CACHE")},
        "HOME": str(folder / "home"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",  # the same sums whoever else is at work
    }
    more = {network.sites[0]: wrong_clock(folder, clock_s)} if clock_s else {}
    found = Lab(folder, network, environment, more=more)
    try:
        for disk in disks:
            mount(disk)
        for host in ("wan", "coordinator", *network.sites):
            found.start(host)
        yield found
    finally:
        found.stop()
        for disk in disks:
            unmount(disk)


def wrong_clock(folder: Path, shift_s: int) -> dict[str, str]:
    """Variables under which a program's wall clock is off by ``shift_s`` seconds."""
    shim = folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(shim), str(source), "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(shim), "CLOCK_SHIFT_S": str(shift_s)}


def mount(place: Path) -> None:
    """A small disk of its own at ``place``."""
    place.mkdir(parents=True, exist_ok=True)
    size = f"size={SMALL_DISK_MB}m,mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "small", str(place)], check=True)


def unmount(place: Path) -> None:
    """Take it away."""
    subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)
