"""A small TLS server that answers as a SuperLink's /health does, with any certificate and any clock."""

from __future__ import annotations

import contextlib
import email.utils
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.provision.authority import Authority, new_authority, new_key, server_certificate


@dataclass(frozen=True)
class Server:
    """Where it listens, and the authority that signed its certificate."""

    port: int
    authority: Authority


def handler(clock, dated: bool):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response_only(200)
            if dated:
                self.send_header("Date", email.utils.format_datetime(clock(), usegmt=True))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    return Handler


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a client that does not like the certificate hangs up


@contextlib.contextmanager
def serving(server: HTTPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class TlsServer(QuietServer):
    """The handshake is done in each connection's own thread: a client that refuses it hurts nobody else."""

    def __init__(self, context: ssl.SSLContext, handled) -> None:
        super().__init__(("127.0.0.1", 0), handled)
        self.context = context

    def finish_request(self, request, client_address):
        request.settimeout(5)
        with self.context.wrap_socket(request, server_side=True) as wire:
            super().finish_request(wire, client_address)


@pytest.fixture(scope="session")
def authority() -> Authority:
    return new_authority("Three hospitals", new_key(), datetime.now(UTC))


@pytest.fixture
def tls_server(tmp_path: Path, authority):
    """``tls_server(hosts=..., ...)`` -> a running ``Server``; it ends with the test.

    ``begins``: from when on its certificate holds, against now. ``ahead``: of its clock.
    """
    with contextlib.ExitStack() as stack:

        def start(
            *,
            hosts=("127.0.0.1",),
            signer: Authority = authority,
            begins=timedelta(0),
            days: int = 365,
            ahead=timedelta(0),
            dated: bool = True,
        ) -> Server:
            key = new_key()
            files = (tmp_path / "server.crt", tmp_path / "server.key")
            files[0].write_bytes(server_certificate(signer, key, hosts, datetime.now(UTC) + begins, days))
            files[1].write_bytes(key)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*files)
            server = TlsServer(context, handler(lambda: datetime.now(UTC) + ahead, dated))
            return Server(stack.enter_context(serving(server)), signer)

        yield start


@pytest.fixture
def plain_server():
    """The port of a server without TLS."""
    with serving(QuietServer(("127.0.0.1", 0), handler(lambda: datetime.now(UTC), True))) as port:
        yield port
