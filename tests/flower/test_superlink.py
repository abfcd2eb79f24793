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

from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
from flwr.proto.message_pb2 import PushObjectRequest

from fedmedlora.as_program import as_program
from fedmedlora.flower.gate import MOST_BYTES
from fedmedlora.flower.loopback import free_port
from fedmedlora.flower.submit import QUIET, own_path
from fedmedlora.flower.superlink import GRACE_S
from fedmedlora.flower.supervise import STOP_S
from fedmedlora.provision.consortium import Consortium, CoordinatorPlace, Member
from fedmedlora.provision.kit import provision


@pytest.fixture
def superlink(tmp_path):
    """(its process, the port of its sites, its kit, its log), up and ended behind the test."""
    sites, control = free_port(), free_port()
    place = CoordinatorPlace(f"127.0.0.1:{sites}", listen=f"127.0.0.1:{sites}", control_port=control)
    provision(Consortium("One", coordinator=place, sites=(Member("lakeside"),)), tmp_path, datetime.now(UTC))
    kit, log = tmp_path / "coordinator", tmp_path / "log"
    command = [
        *as_program("flower.superlink"), f"127.0.0.1:{sites}", "--host", "127.0.0.1", "--port", str(control),
        "--ssl-ca-certfile", str(kit / "ca.crt"), "--ssl-certfile", str(kit / "server.crt"),
        "--ssl-keyfile", str(kit / "server.key"), "--database", str(tmp_path / "superlink.db"),
        "--enable-supernode-auth",
    ]  # fmt: skip
    environment = {**os.environ, **QUIET, "PATH": own_path(os.environ), "FLWR_HOME": str(tmp_path)}
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        until(log, "Application startup complete", process)
        yield process, sites, kit, log
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_connection_that_comes_amid_its_end_does_not_keep_it(superlink):
    """As a site's did that came back while its coordinator was being killed: over a slow link, TLS was not
    through when the server told its connections to close."""
    process, sites, kit, log = superlink
    context = trusting(kit)
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
    assert GRACE_S < STOP_S


def test_a_stranger_s_request_has_a_size(superlink):
    """Flower would read the whole of it before it asks who sent it."""
    process, sites, kit, _ = superlink
    chunk = b"100000\r\n%b\r\n" % bytes(1 << 20)
    request = "POST /v1/fleet/push-object HTTP/1.1\r\nHost: x\r\nContent-Type: application/protobuf\r\n"

    def pushed(head: str, parts) -> tuple[int, int]:
        """(the status, how many ``parts`` were taken before it came)."""
        with trusting(kit).wrap_socket(connected(sites), server_hostname="127.0.0.1") as site:
            site.sendall(f"{request}{head}\r\n\r\n".encode())
            num = 0
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
                for part in parts:
                    site.sendall(part)
                    num += 1
            return int(site.recv(100).split()[1]), num

    assert pushed(f"Content-Length: {10**12}", []) == (413, 0)  # answered before anything is sent
    more = [chunk] * (MOST_BYTES >> 20) + [b"1\r\n0\r\n"]  # one byte more, and no end
    assert pushed("Transfer-Encoding: chunked", more) == (413, len(more))
    # An object of an update is read, and refused for whose it is.
    data = PushObjectRequest(object_content=bytes(FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE)).SerializeToString()
    whole = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
    assert pushed(f"Content-Length: {len(data)}", [data]) == (401, 1)
    assert pushed("Transfer-Encoding: chunked", [whole]) == (401, 1)
    assert process.poll() is None


def trusting(kit: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(kit / "ca.crt")
    return context


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
