"""A network namespace in which programs have loopback and nothing else, and a count of who tried to get out.

Linux counts what a program sends to where no way leads (``OutNoRoutes``), for each namespace by itself: a
connection, a datagram, IPv4 or IPv6. Names are looked up at an address of that kind too, whatever resolver
this machine has, so a lookup counts as well.

Run as a program this file is what holds such a namespace: ``unshare -n -m python no_way_out.py FOLDER``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

READY = "ready"
# An address of documentation, https://www.rfc-editor.org/rfc/rfc5737: no way leads there.
LOOKED_UP = {"/etc/resolv.conf": "nameserver 192.0.2.53\n", "/etc/nsswitch.conf": "hosts: files dns\n"}
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1


class Impossible(Exception):  # noqa: N818 - a state of this machine, not an error
    """Why no namespace can be made here."""


@dataclass(frozen=True)
class NoWayOut:
    """A namespace. ``prefix``: what runs a command in it."""

    pid: int
    prefix: tuple[str, ...]

    def num_attempts(self) -> int:
        """How often something was sent to where no way leads, since the namespace was made."""
        net = Path(f"/proc/{self.pid}/net")
        names, values = (line.split() for line in net.joinpath("snmp").read_text().splitlines()[:2])
        of_6 = dict(line.split() for line in net.joinpath("snmp6").read_text().splitlines())
        return int(dict(zip(names, values, strict=True))["OutNoRoutes"]) + int(of_6.get("Ip6OutNoRoutes", 0))


@contextmanager
def no_way_out(folder: Path) -> Iterator[NoWayOut]:
    """Within the block the namespace is there. ``folder``: for two small files. Raises ``Impossible``."""
    if sys.platform != "linux" or not (shutil.which("unshare") and shutil.which("nsenter")):
        raise Impossible("network namespaces need Linux, unshare and nsenter")
    is_root = os.geteuid() == 0
    made = [*(() if is_root else ("--map-root-user",)), "--net", "--mount"]
    holder = subprocess.Popen(
        ["unshare", *made, sys.executable, __file__, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline().strip() != READY:
            raise Impossible(f"no network namespace here: {holder.stderr.read().strip()[-300:]}")
        user = () if is_root else ("--user", "--preserve-credentials")
        yield NoWayOut(holder.pid, ("nsenter", "--target", str(holder.pid), *user, "--net", "--mount", "--"))
    finally:
        holder.communicate()  # its input ends, and so does it


def hold(folder: Path) -> None:
    """Make this process's own namespace what it should be, say so, and wait for the end of the input."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))
    for path, text in LOOKED_UP.items():
        if Path(path).exists():
            instead = folder / Path(path).name
            instead.write_text(text)
            subprocess.run(["mount", "--bind", str(instead), path], check=True)
    print(READY, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    hold(Path(sys.argv[1]))
