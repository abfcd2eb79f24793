"""A SuperNode says in its log whether its coordinator answers: of the first attempt, and of each change.

Flower (1.41) says so of some calls and not of others: a heartbeat that fails, the only call while a site
trains, is tried again without a word; so is one that a web proxy refuses; and what is said to fail need not
be said to succeed. So each attempt is looked at here, where all that a SuperNode sends to its coordinator
passes.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
from flwr.supernode.fleet_http_client import FleetHttpClient

from fedmedlora.flower.site_program import ANSWERS, SILENT

_IN_BETWEEN = frozenset({502, 503, 504})  # said by what stands before a server that does not answer

Send = Callable[..., httpx.Response]


def install_reached() -> None:
    """From now on a SuperNode of this process says it."""
    watched = Reached(partial(print, file=sys.stderr, flush=True)).watching(FleetHttpClient._send)
    FleetHttpClient._send = watched  # type: ignore[method-assign]


class Reached:
    """Whether the last attempt was answered."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """``say``: is given ``SILENT`` or ``ANSWERS``."""
        self._say, self._lock = say, threading.Lock()  # heartbeats have a thread
        self._last: bool | None = None

    def watching(self, send: Send) -> Send:
        """``send``, of which every end is looked at. A refusal is an answer."""

        def watched(*args: Any, **how: Any) -> httpx.Response:
            try:
                response = send(*args, **how)
            except httpx.TransportError:
                self._heard(answer=False)
                raise
            self._heard(answer=response.status_code not in _IN_BETWEEN)
            return response

        return watched

    def _heard(self, *, answer: bool) -> None:
        with self._lock:
            if answer is not self._last:
                self._last = answer
                self._say(ANSWERS if answer else SILENT)
