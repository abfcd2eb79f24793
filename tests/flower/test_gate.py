"""The gate: what sites may ask, on which port, and that Flower's own application stands behind it."""

from __future__ import annotations

import asyncio

import pytest

from fedmedlora.flower.gate import Gate, is_for_sites

SITES, CONTROL = 8000, 8001


def asked(app, method: str, path: str, port: int | None, kind: str = "http") -> int | str:
    """The status that ``app`` answers with."""
    sent: list[dict] = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "https",
        "headers": [],
        "client": ("127.0.0.1", 5),
        "server": None if port is None else ("127.0.0.1", port),
        "state": {},
    }
    asyncio.run(app(scope, receive, send))
    return sent[0].get("status", sent[0]["type"])


async def anything(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.mark.parametrize(
    ("method", "path", "passes"),
    [
        ("POST", "/v1/fleet/activate-node", True),
        ("POST", "/v1/fleet/pull-messages", True),
        ("GET", "/health", True),
        ("GET", "/v1/fleet/activate-node", False),
        ("POST", "/health", False),
        ("POST", "/v1/control/start-run", False),
        ("POST", "/v1/control/register-node", False),
        ("POST", "/v1/runtime/acquire-task", False),
        ("POST", "/v1/fleet/../control/start-run", False),
        ("POST", "/v1/fleet//v1/control/start-run", False),
        ("POST", "/v1/fleet/x/../../control/start-run", False),
        ("POST", "/v1/fleet/", False),
        ("POST", "/v1/fleet/a\n", False),
        ("POST", "//v1/fleet/activate-node", False),
        ("POST", "/V1/FLEET/activate-node", False),
        ("GET", "/docs", False),
        ("GET", "/openapi.json", False),
        ("GET", "/", False),
    ],
)
def test_what_sites_may_ask(method, path, passes):
    assert is_for_sites(method, path) == passes
    gate = Gate(anything, SITES)
    assert asked(gate, method, path, SITES) == (200 if passes else 404)
    assert asked(gate, method, path, None) == (200 if passes else 404)  # not known where: as for sites
    assert asked(gate, method, path, CONTROL) == 200


def test_web_sockets_are_for_nobody_outside():
    gate = Gate(anything, SITES)
    assert asked(gate, "GET", "/v1/fleet/x", SITES, "websocket") == "websocket.close"
    assert asked(gate, "GET", "/v1/fleet/x", CONTROL, "websocket") == 200
    assert asked(gate, "GET", "", SITES, "lifespan") == 200


def test_every_interface_of_flower_but_fleet_is_behind_it():
    """Whatever Flower serves, by its own list: a new version's new interface fails here."""
    pytest.importorskip("flwr")
    from flwr.superlink.main import create_app

    served = create_app().openapi()["paths"]
    outside = {path.split("/")[2] if path.startswith("/v1/") else path for path in served}
    passing = {p for p, ways in served.items() for way in ways if is_for_sites(way.upper(), p)}
    assert {"fleet", "control", "runtime"} <= outside
    assert {path.rsplit("/", 1)[0] for path in passing - {"/health"}} == {"/v1/fleet"}
    assert {path for path in served if path.startswith("/v1/fleet/")} <= passing
