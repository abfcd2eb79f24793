"""The SuperLink program, as a process of its own: told to stop, it stops."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.as_program import as_program
from fedmedlora.flower.loopback import free_port
from fedmedlora.flower.submit import QUIET, own_path
from fedmedlora.flower.superlink import GRACE_S
from fedmedlora.flower.supervise import STOP_S
from fedmedlora.provision.consortium import Consortium, CoordinatorPlace, Member
from fedmedlora.provision.kit import provision


def test_a_connection_that_comes_amid_its_end_does_not_keep_it(tmp_path):
    """As a site's did that came back while its coordinator was being killed: over a slow link, TLS was not
    through when the server told its connections to close."""
    sites, control = free_port(), free_port()
    place = CoordinatorPlace(f"127.0.0.1:{sites}", listen=f"127.0.0.1:{sites}", control_port=control)
    provision(Consortium("One", coordinator=place, sites=(Member("lakeside"),)), tmp_path, datetime.now(UTC))
    kit, log = tmp_path / "coordinator", tmp_path / "log"
    command = [
        *as_program("flower.superlink"), f"127.0.0.1:{sites}", "--host", "127.0.0.1", "--port", str(control),
        "--ssl-ca-certfile", str(kit / "ca.crt"), "--ssl-certfile", str(kit / "server.crt"),
        "--ssl-keyfile", str(kit / "server.key"), "--database", str(tmp_path / "superlink.db"),
    ]  # fmt: skip
    environment = {**os.environ, **QUIET, "PATH": own_path(os.environ), "FLWR_HOME": str(tmp_path)}
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        until(log, "Application startup complete", process)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(kit / "ca.crt")
        with connected(sites) as early:
            time.sleep(0.5)  # until it has been accepted
            process.terminate()
            until(log, "Shutting down", process)
            time.sleep(0.02)
            with context.wrap_socket(early, server_hostname="127.0.0.1") as site:
                site.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert site.recv(100).startswith(b"HTTP/1.1 200")  # and it is left open
                until(log, "Waiting for connections to close", process)
                process.wait(GRACE_S + 10)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert GRACE_S < STOP_S


def connected(port: int) -> socket.socket:
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), timeout=20)
        assert time.monotonic() < deadline, "nobody listens"
        time.sleep(0.1)


def until(log: Path, words: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while words not in (said := log.read_text(errors="replace")):
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.005)
