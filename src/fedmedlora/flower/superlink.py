"""``python -m fedmedlora.flower.superlink LISTEN ARGUMENTS``: ``flower-superlink``, with a port for sites.

ARGUMENTS are ``flower-superlink``'s own, with ``--host`` and ``--port`` on 127.0.0.1. LISTEN is host:port,
where sites connect: see ``gate.py``. Three things of Flower 1.41 are changed on the way, all held by a test:

* its server listens on both ports, behind the gate;
* a site's clock may be ``CLOCK_AHEAD_S`` ahead of this one. Flower signs the time into every request and
  refuses what comes from more than five seconds in the future, which many a hospital's clock does. From the
  past it takes five minutes, to which the same allowance is added;
* told to stop, it stops. Flower's waits until every connection is closed, and one that came amid its end is
  never told to: the site behind it would be served for ever, by a server that nobody looks after, beside the
  one that was started in its place.
"""

from __future__ import annotations

import importlib
import socket
import sys
from types import SimpleNamespace
from typing import Any

from fedmedlora.flower.gate import Gate
from fedmedlora.provision.address import Address, parse_address

CLOCK_AHEAD_S = 180
CLOCK_BEHIND_S = 300 + CLOCK_AHEAD_S
GRACE_S = 5  # for what is being sent; less than ``supervise.STOP_S``


def main() -> None:
    """Run until told to stop."""
    listen = parse_address(sys.argv[1])
    sys.argv = ["flower-superlink", *sys.argv[2:]]
    program: Any = importlib.import_module("flwr.superlink.cli.flower_superlink")
    authentication: Any = importlib.import_module("flwr.superlink.routers.fleet.node_auth")
    uvicorn = program.uvicorn

    def run(*, app: Any, host: str, port: int, **options: Any) -> None:
        options |= {"app": Gate(app, listen.port), "timeout_graceful_shutdown": GRACE_S}
        config = uvicorn.Config(host=host, port=port, **options)
        server = uvicorn.Server(config)
        server.run(sockets=[bound(Address(host, port)), bound(listen)])
        if not server.started:
            sys.exit(1)

    program.uvicorn = SimpleNamespace(run=run)
    authentication.SYSTEM_TIME_TOLERANCE = CLOCK_AHEAD_S
    program.flower_superlink()


def bound(address: Address) -> socket.socket:
    """A socket at ``address``. Ends the program, saying so, where it is taken."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((address.host, address.port))
    except OSError as error:
        found.close()
        sys.exit(f"fedmedlora: {address}: cannot listen there ({error.strerror})")
    return found


if __name__ == "__main__":
    main()
