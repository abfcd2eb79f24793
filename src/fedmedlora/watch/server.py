"""A page, its numbers and its metrics, served to this machine alone.

Four paths, and GET: everything else is refused with a fixed text. Nothing of a request is joined to a path,
written to a log or sent back. A request that names another host is refused, so that no web page that a
browser on this machine has open can come here by a name of its own (DNS rebinding,
https://en.wikipedia.org/wiki/DNS_rebinding).
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fedmedlora.live_record import utc_now
from fedmedlora.watch.metrics import CONTENT_TYPE, HOW, is_installed, metrics_text
from fedmedlora.watch.page import page, policy
from fedmedlora.watch.reading import find, read_status
from fedmedlora.watch.status import Status

log = logging.getLogger("fedmedlora")

ADDRESS = "127.0.0.1"
IDLE_S = 10.0  # a connection that says nothing for so long is closed
_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", re.ASCII | re.IGNORECASE)
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_NOTHING = "default-src 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back for one path."""

    body: bytes
    kind: str
    code: HTTPStatus = HTTPStatus.OK
    policy: str = _NOTHING


def answer_to(path: str, read: Callable[[], Status]) -> Answer | None:
    """What is at ``path``; None where there is nothing. ``read``: how the run stands, or ``ValueError``."""
    found = _PATHS.get(path)
    if found is None:
        return None
    try:
        return found(read(), "")
    except (OSError, ValueError) as error:
        return found(None, str(error))


def _page(status: Status | None, problem: str) -> Answer:
    code = HTTPStatus.OK if status else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(_utf8(page(status, utc_now(), problem)), "text/html; charset=utf-8", code, policy())


def _json(status: Status | None, problem: str) -> Answer:
    if status is None:
        return Answer(_line({"error": problem}), "application/json", HTTPStatus.SERVICE_UNAVAILABLE)
    return Answer(_line(status.to_json()), "application/json")


def _metrics(status: Status | None, problem: str) -> Answer:
    if not is_installed():
        return _plain(HOW, HTTPStatus.NOT_IMPLEMENTED)
    if status is None:
        return _plain("the run's files cannot be read", HTTPStatus.SERVICE_UNAVAILABLE)
    return Answer(metrics_text(status), CONTENT_TYPE)


def _health(status: Status | None, problem: str) -> Answer:
    if status is None:
        return _plain("the run's files cannot be read", HTTPStatus.SERVICE_UNAVAILABLE)
    return _plain("ok")


def _plain(words: str, code: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(_utf8(f"{words}\n"), "text/plain; charset=utf-8", code)


def _line(record: Any) -> bytes:
    return json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


_PATHS: dict[str, Callable[[Status | None, str], Answer]] = {
    "/": _page,
    "/status.json": _json,
    "/metrics": _metrics,
    "/health": _health,
}


class Server(ThreadingHTTPServer):
    """On this machine's own address; ``read`` says how the run stands. Port 0: one that is free."""

    daemon_threads = True

    def __init__(self, port: int, read: Callable[[], Status]) -> None:
        """Raises ``ValueError`` for a port that cannot be had."""
        self.read = read
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            told = getattr(error, "strerror", None) or error
            raise ValueError(
                f"port {port}: cannot be listened on ({told}); name another one, or 0 for any that is free"
            ) from error

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{ADDRESS}:{self.server_address[1]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that has gone is no news; what we have overlooked is, and says nothing of the request."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            log.error("a page could not be made", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S

    def do_GET(self) -> None:
        """Answer, or say that there is nothing."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not _HOST.fullmatch(hosts[0].strip()):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        # As it was sent: http.server has taken slashes off its path.
        answer = answer_to(self.requestline.split()[1], self.server.read)
        if answer is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._send(answer)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Whatever is wrong with a request: a text that says nothing of it, and no more requests."""
        status = HTTPStatus(code)
        if status is HTTPStatus.NOT_IMPLEMENTED:  # what http.server calls a method that is none of ours
            status = HTTPStatus.METHOD_NOT_ALLOWED
        self.close_connection = True
        self._send(_plain(status.phrase, status))

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.code)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", answer.policy)
        if answer.code is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def version_string(self) -> str:
        """Which Python this is, is nobody's business."""
        return "fedmedlora"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing of a request is written anywhere."""


def serve(state: Path, port: int, tell: Callable[[str], None]) -> None:
    """Serve the run at ``state`` until Ctrl-C; ``tell`` is given the page's address.

    ``state``: see ``reading.find``, which looks again for every answer: of a state folder the last run is
    shown. Raises ``ValueError`` for a folder without a run, and for a port that cannot be had.
    """
    read_status(find(state))
    with Server(port, lambda: read_status(find(state))) as server:
        tell(server.address)
        if not is_installed():
            tell(f"without {server.address}metrics: {HOW}")
        server.serve_forever(poll_interval=0.2)
