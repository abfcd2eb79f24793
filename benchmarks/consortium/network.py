"""Hosts as Linux network namespaces around one that routes between them. Needs root and iproute2.

    coordinator 10.77.0.2 --- wan --- 10.77.1.2 site 1
                               |  --- 10.77.2.2 site 2 ...

Nothing leads out of the machine: no namespace has a link to the outside. Each link is shaped by tc's token
bucket filter, both ways. The kernel may lack netem, so time on the way is added by ``forwarder.py``, which
the sites connect to instead of the coordinator.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MEETING_ADDRESS = "10.77.100.1"  # of the forwarder: where the sites believe the coordinator to be
COORDINATOR_ADDRESS = "10.77.0.2"
_PREFIX = "fml-"


@dataclass(frozen=True, slots=True)
class Network:
    """The namespaces that ``network`` made. ``sites``: one host each, by name."""

    sites: tuple[str, ...]

    def command(self, host: str, command: Sequence[str]) -> list[str]:
        """``command`` as one that runs at ``host``: "coordinator", "wan" or a site."""
        return ["ip", "netns", "exec", f"{_PREFIX}{host}", *command]

    def cut(self, site: str) -> None:
        """Let nothing through to the site any more: what it sends gets no answer."""
        _ip("-n", f"{_PREFIX}wan", "route", "add", "blackhole", f"10.77.{self._number(site)}.2/32")

    def join(self, site: str) -> None:
        """Connect it again."""
        _ip("-n", f"{_PREFIX}wan", "route", "del", "blackhole", f"10.77.{self._number(site)}.2/32")

    def _number(self, host: str) -> int:
        return 0 if host == "coordinator" else 1 + self.sites.index(host)


@contextlib.contextmanager
def network(sites: Sequence[str], *, mbit: float) -> Iterator[Network]:
    """Within the block the namespaces are there, with links of ``mbit`` Mbit/s.

    Raises ``OSError`` where they cannot be made: not root, no iproute2, a kernel without them.
    """
    if os.geteuid() != 0:
        raise OSError("network namespaces need root")
    hosts = ("coordinator", *sites)
    _remove()
    try:
        _add("wan")
        _ip("-n", f"{_PREFIX}wan", "addr", "add", f"{MEETING_ADDRESS}/32", "dev", "lo")
        _run("ip", "netns", "exec", f"{_PREFIX}wan", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for number, host in enumerate(hosts):
            _add(host)
            _connect(host, number, mbit)
        yield Network(tuple(sites))
    finally:
        _remove()


def _add(host: str) -> None:
    name = f"{_PREFIX}{host}"
    _ip("netns", "add", name)
    _ip("-n", name, "link", "set", "lo", "up")


def _connect(host: str, number: int, mbit: float) -> None:
    wan, name = f"{_PREFIX}wan", f"{_PREFIX}{host}"
    here, there = "eth0", _link(number)
    _ip("-n", wan, "link", "add", there, "type", "veth", "peer", "name", here, "netns", name)
    _ip("-n", wan, "addr", "add", f"10.77.{number}.1/24", "dev", there)
    _ip("-n", name, "addr", "add", f"10.77.{number}.2/24", "dev", here)
    for place, link in ((wan, there), (name, here)):
        _ip("-n", place, "link", "set", link, "up")
        shape = ("tbf", "rate", f"{mbit:g}mbit", "burst", "64kb", "latency", "200ms")
        _run("tc", "-n", place, "qdisc", "add", "dev", link, "root", *shape)
    _ip("-n", name, "route", "add", "10.77.0.0/16", "via", f"10.77.{number}.1")


def _link(number: int) -> str:
    return f"to{number}"


def _remove() -> None:
    found = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    for line in found.splitlines():
        name = line.split()[0]
        if name.startswith(_PREFIX):
            _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
