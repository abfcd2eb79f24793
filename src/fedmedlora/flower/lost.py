"""A SuperNode that has lost a question or an answer ends, and its site is asked again when it is back.

A question comes in pieces, and an answer leaves in pieces. Where one cannot be fetched or sent, Flower's
SuperNode (1.41) drops the whole, says so in its own log, and goes on asking for other questions. Most broken
connections it tries again; one that breaks in the handshake of TLS it does not, and that is what a server
that is just being stopped does, or a web proxy. SuperLink has the question down as delivered, so nobody would
ever hear of it, and a round without a deadline would wait for the site for days.

A SuperNode that ends is started again by whoever keeps it up (``supervise.py``). The coordinator asks a site
whose SuperNode has connected anew once more (``asking.py``), and gets from it what it keeps.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

from flwr.supercore.run import RunNotRunningException

SUPERNODE = "flwr.supernode.start_client_internal"
FETCH, SEND = "_pull_and_store_message", "_push_messages"
# What each of the two uses to reach the coordinator, and after whose failure it goes on as if nothing were.
BY = {FETCH: ("pull_object", "confirm_message_received"), SEND: ("send", "push_object")}

Result = TypeVar("Result")


class LostError(ConnectionError):
    """A question or an answer was dropped."""


def install_lost() -> None:
    """From now on a SuperNode of this process ends where it has lost a question or an answer."""
    supernode: Any = importlib.import_module(SUPERNODE)
    for name, by in BY.items():
        setattr(supernode, name, never_silent(getattr(supernode, name), by))


def never_silent(step: Callable[..., Result], by: tuple[str, ...]) -> Callable[..., Result]:
    """``step``, which raises ``LostError`` after it has gone over a failure of one of its arguments ``by``.

    A run that has ended meanwhile is none: nobody waits for its questions and answers.
    """

    def checked(**arguments: Any) -> Result:
        failures: list[Exception] = []

        def told(reach: Callable[..., Any]) -> Callable[..., Any]:
            def reached(*args: Any) -> Any:
                try:
                    return reach(*args)
                except RunNotRunningException:
                    raise
                except Exception as error:
                    failures.append(error)
                    raise

            return reached

        result = step(**{name: told(one) if name in by else one for name, one in arguments.items()})
        if failures:
            kind = type(failures[0]).__name__
            raise LostError(f"a question or an answer was lost ({kind}): start this SuperNode again")
        return result

    return checked
