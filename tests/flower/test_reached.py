"""A SuperNode's log says when its coordinator does not answer, whatever was asked, and when it does again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

import httpx
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.supercore.protobuf.client import ProtobufClient
from flwr.supernode.fleet_http_client import FleetHttpClient

from fedmedlora.as_program import as_program
from fedmedlora.flower.loopback import free_port
from fedmedlora.flower.reached import Reached, install_reached
from fedmedlora.flower.site_program import ANSWERS, SILENT


@contextlib.contextmanager
def server(port: int, status: int):
    """One that answers everything with ``status``, and with nothing for 0."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            if status:
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", port), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            found.shutdown()
            thread.join()


@pytest.fixture
def said(monkeypatch) -> list[str]:
    told: list[str] = []
    watched = Reached(told.append).watching(FleetHttpClient._send)
    monkeypatch.setattr(FleetHttpClient, "_send", watched)
    return told


def call(port: int) -> None:
    """A heartbeat, as Flower sends it, without its trying again."""
    client = FleetHttpClient.from_server_address(
        f"127.0.0.1:{port}", insecure=True, root_certificates=None, interceptors=[]
    )
    with client, contextlib.suppress(httpx.HTTPError):
        client.SendNodeHeartbeat(SendNodeHeartbeatRequest())


def test_it_is_said_once_for_each_time(said):
    port = free_port()
    with server(port, 200):
        for _ in range(2):
            call(port)
    assert said == [ANSWERS]
    for _ in range(2):
        call(port)
    assert said == [ANSWERS, SILENT]
    with server(port, 200):
        call(port)
    assert said == [ANSWERS, SILENT, ANSWERS]


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_refusal_is_an_answer(said, status):
    port = free_port()
    call(port)
    with server(port, status):
        call(port)
    assert said == [SILENT, ANSWERS]


@pytest.mark.parametrize("status", [0, 502, 503, 504])
def test_what_stands_in_between_is_not_the_coordinator(said, status):
    port = free_port()
    with server(port, status):
        call(port)
    assert said == [SILENT]


def test_what_goes_elsewhere_is_not_looked_at(monkeypatch):
    """Calls within the machine are of other classes."""
    before = ProtobufClient._send
    monkeypatch.setattr(FleetHttpClient, "_send", before)  # Flower's again afterwards
    install_reached()
    assert FleetHttpClient._send is not before
    assert ProtobufClient._send is before


def test_a_real_one_says_it(tmp_path):
    (tmp_path / "site.toml").write_text('name = "mercy"\ntrain = "train.jsonl"\n')
    program = [*as_program("flower.site_program"), "--site", str(tmp_path / "site.toml"), "--insecure"]
    program += ["--superlink", f"127.0.0.1:{free_port()}", "--host", "127.0.0.1", "--port", str(free_port())]
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(program, stdout=out, stderr=out, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while SILENT not in log.read_text() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
    assert SILENT in log.read_text()
