"""What a SuperLink answers to whom: sites may do what a site does, and nothing else.

Flower 1.41 serves three interfaces on one port: Fleet, for SuperNodes, which are known by their keys;
Control, which starts runs and asks for no password; and Runtime, for the SuperLink's own helpers. Whoever
reaches Control can have every site run an app of theirs. So there are two ports here: the sites' one passes
Fleet on and refuses the rest as if it were not there, and the other one is bound to this machine.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OF_A_SITE = re.compile(r"/v1/fleet/[a-z-]+")
_IS_UP = "/health"


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
        """Pass the request on, or answer 404."""
        port = (scope.get("server") or ("", self.sites_port))[1]  # not known: as if it were the sites'
        is_ours = scope["type"] == "lifespan" or port != self.sites_port
        if is_ours or (scope["type"] == "http" and is_for_sites(scope["method"], scope["path"])):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        else:  # a WebSocket, which Fleet has none of
            await send({"type": "websocket.close", "code": 1008})
