"""A SuperNode tries again what breaks on the way, and ends where a question or an answer is lost for good.

A question comes in pieces, and an answer leaves in pieces. Where one cannot be fetched or sent, Flower's
SuperNode (1.41) drops the whole, says so in its own log, and goes on asking for other questions. Most broken
connections it tries again; one that breaks in the handshake of TLS it does not, and that is what a server
that is just being stopped does, or a web proxy. SuperLink has the question down as delivered, so nobody would
ever hear of it, and a round without a deadline would wait for the site for days.

So here such a connection is tried again too, for ``TRY_S``. Where that is not enough, the SuperNode ends, and
is started again by whoever keeps it up (``supervise.py``). The coordinator asks a site whose SuperNode has
connected anew once more (``asking.py``), and gets from it what it keeps.

It also ends where a run ends amid the fetching of its question. Flower has begun a task for it by then, and
leaves it: its answer would be there first when the next question's is to be sent, go out in its place, and
that one would stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
from flwr.supercore.run import RunNotRunningException
from flwr.supernode import start_client_internal as supernode

# What Flower's two steps are given to reach the coordinator with.
PULLS = ("pull_object", "confirm_message_received")  # once there is a task
FETCHES = ("receive", "get_run", "get_fab", *PULLS)
SENDS = ("send", "push_object")
TRY_S = 120.0
FIRST_WAIT_S, MOST_WAIT_S = 1.0, 10.0

Reach = Callable[..., Any]


class LostError(ConnectionError):
    """A question or an answer was dropped."""


def install_lost() -> None:
    """From now on a SuperNode of this process ends where it has lost a question or an answer."""
    supernode._pull_and_store_message = fetching(supernode._pull_and_store_message)
    supernode._push_messages = sending(supernode._push_messages)


def fetching(step: Callable[..., int | None]) -> Callable[..., int | None]:
    """``step``, Flower's, which raises ``LostError`` where a question came and nothing came of it."""

    def fetch(**arguments: Any) -> int | None:
        seen = _Seen()
        found = step(**seen.reaching(arguments, FETCHES))
        if found is None and seen.came and not seen.was_over:
            raise seen.lost("a question")
        return found

    return fetch


def sending(step: Callable[..., None]) -> Callable[..., None]:
    """``step``, Flower's, which raises ``LostError`` where an answer did not get through."""

    def send(**arguments: Any) -> None:
        seen = _Seen()
        step(**seen.reaching(arguments, SENDS))
        if seen.failed:
            raise seen.lost("an answer")

    return send


class _Seen:
    """What happened on the way to the coordinator.

    ``came``: whether a question did. ``was_over``: whether its run had ended before a task was begun for it.
    ``failed``: the kind of the last error, "" where there was none.
    """

    def __init__(self) -> None:
        self.came, self.was_over, self.failed = False, False, ""

    def reaching(self, arguments: dict[str, Any], by: tuple[str, ...]) -> dict[str, Any]:
        """``arguments``, of which those named ``by`` are tried again and looked at."""
        return {
            name: self._watched(patiently(one), name) if name in by else one
            for name, one in arguments.items()
        }

    def lost(self, what: str) -> LostError:
        """The error that says so, without the words of the one behind it."""
        return LostError(f"{what} was lost ({self.failed or 'not complete'}): start this SuperNode again")

    def _watched(self, reach: Reach, name: str) -> Reach:
        def watched(*args: Any) -> Any:
            try:
                found = reach(*args)
            except RunNotRunningException:
                self.was_over = name not in PULLS
                raise
            except Exception as error:
                self.failed = type(error).__name__
                raise
            self.came = self.came or (name == "receive" and found is not None)
            return found

        return watched


def patiently(
    reach: Reach, sleep: Callable[[float], None] = time.sleep, now: Callable[[], float] = time.monotonic
) -> Reach:
    """``reach``, tried again for ``TRY_S`` where the connection breaks. ``now``: seconds."""

    def tried(*args: Any) -> Any:
        until, wait = now() + TRY_S, FIRST_WAIT_S
        while True:
            try:
                return reach(*args)
            except httpx.TransportError:
                if now() + wait > until:
                    raise
            sleep(wait)
            wait = min(2 * wait, MOST_WAIT_S)

    return tried
