"""What a SuperLink answers to whom: sites may do what a site does, and nothing else.

Flower 1.41 serves three interfaces on one port: Fleet, for SuperNodes, which are known by their keys;
Control, which starts runs and asks for no password; and Runtime, for the SuperLink's own helpers. Whoever
reaches Control can have every site run an app of theirs. So there are two ports here: the sites' one passes
Fleet on and refuses the rest as if it were not there, and the other one is bound to this machine.

Flower reads a request whole before it looks who sent it. So here a request of a site has a size: what is
larger than ``MOST_BYTES`` is answered 413, and no more of it than that is ever held. An update is larger, and
travels in pieces: Flower cuts an array into objects of 5 MiB (``FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE``), each a
request of its own. The rest of a message are its fields (``messages.MAX_JSON``, 4 MB) and a list of all its
objects, some 70 bytes for each: 4 MB for the whole of a model with 70 billion parameters, in float32.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OF_A_SITE = re.compile(r"/v1/fleet/[a-z-]+")
_IS_UP = "/health"
MOST_BYTES = 16 << 20  # of one request; three times the largest honest one


def is_for_sites(method: str, path: str) -> bool:
    """Whether a site may ask this: Flower's Fleet interface, and whether somebody is there at all."""
    return (method == "POST" and _OF_A_SITE.fullmatch(path) is not None) or (
        method in ("GET", "HEAD") and path == _IS_UP
    )


@dataclass(frozen=True)
class Gate:
    """An ASGI application (https://asgi.readthedocs.io) in front of ``app``.

    ``sites_port``: the port on which ``is_for_sites`` decides. On others everything passes.
    """

    app: App
    sites_port: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 404, or 413."""
        port = (scope.get("server") or ("", self.sites_port))[1]  # not known: as if it were the sites'
        is_ours = scope["type"] == "lifespan" or port != self.sites_port
        if is_ours:
            await self.app(scope, receive, send)
        elif scope["type"] != "http":  # a WebSocket, which Fleet has none of
            await send({"type": "websocket.close", "code": 1008})
        elif not is_for_sites(scope["method"], scope["path"]):
            await _refuse(send, 404)
        elif (parts := await _body(scope, receive)) is None:
            await _refuse(send, 413)
        else:
            await self.app(scope, _replayed(parts, receive), send)


async def _body(scope: Scope, receive: Receive) -> list[Event] | None:
    """The parts of the request's body as they came; None: they are more than ``MOST_BYTES``.

    Counted as well as believed: a request in chunks does not say how long it is.
    """
    said = [value for name, value in scope["headers"] if name == b"content-length"]
    if any(len(value) > 18 or not value.isdigit() or int(value) > MOST_BYTES for value in said):
        return None
    parts: list[Event] = []
    num = 0
    while True:
        part = await receive()
        num += len(part.get("body", b""))
        if num > MOST_BYTES:
            return None
        parts.append(part)
        if not part.get("more_body", False):  # the last one, or the end of the connection
            return parts


def _replayed(parts: list[Event], receive: Receive) -> Receive:
    """``receive`` from the beginning: ``parts``, which came, and then whatever comes."""
    left = iter(parts)

    async def again() -> Event:
        for part in left:
            return part
        return await receive()

    return again


async def _refuse(send: Send, status: int) -> None:
    # What of the body was not read is not waited for.
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
