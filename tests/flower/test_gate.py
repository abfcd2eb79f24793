"""The gate: what sites may ask, on which port, and that Flower's own application stands behind it."""

from __future__ import annotations

import asyncio

import pytest

from fedmedlora.flower.gate import MOST_BYTES, Gate, is_for_sites
from fedmedlora.flower.messages import MAX_JSON

SITES, CONTROL = 8000, 8001


def asked(
    app, method: str, path: str, port: int | None, kind: str = "http", parts=(b"",), headers=()
) -> int | str:
    """The status that ``app`` answers with. ``parts``: of the body, in order; then the other side goes."""
    sent: list[dict] = []
    events = [{"type": "http.request", "body": body, "more_body": True} for body in parts]
    events[-1]["more_body"] = False
    coming = iter(events)

    async def receive():
        return next(coming, {"type": "http.disconnect"})

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
        "headers": list(headers),
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


@pytest.mark.parametrize(
    ("sizes", "passes"),
    [
        ([], True),
        ([6 << 20], True),  # an object of an update
        ([MOST_BYTES], True),
        ([MOST_BYTES - 1, 1, 0], True),
        ([MOST_BYTES + 1], False),
        ([MOST_BYTES, 0, 1], False),
        ([1 << 20] * 17, False),
    ],
)
def test_a_request_in_chunks_is_counted(sizes, passes):
    """The application gets what came, part by part, and then the end; of what is too large, nothing."""
    found: list[dict] = []

    async def reads(scope, receive, send):
        found.append(await receive())
        while found[-1]["type"] != "http.disconnect":
            found.append(await receive())
        await anything(scope, receive, send)

    sent = [bytes(size) for size in sizes] or [b""]
    status = asked(Gate(reads, SITES), "POST", "/v1/fleet/push-object", SITES, parts=sent)
    assert status == (200 if passes else 413)
    assert [event["body"] for event in found[:-1]] == (sent if passes else [])


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (str(MOST_BYTES), 200),
        (str(MOST_BYTES + 1), 413),
        ("9" * 400, 413),
        ("-1", 413),
        ("", 413),
        ("1e9", 413),
    ],
)
def test_what_says_that_it_is_larger_is_not_read(said, status):
    headers = [(b"content-length", said.encode())]
    path = "/v1/fleet/push-object"
    assert asked(Gate(anything, SITES), "POST", path, SITES, headers=headers) == status
    assert asked(Gate(anything, SITES), "POST", path, CONTROL, headers=headers) == 200


def test_what_an_update_of_a_large_model_takes_is_let_through():
    """Flower's largest requests: an object of an array, the fields of a message, the list of objects."""
    from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
    from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest

    largest = PushObjectRequest(object_id="a" * 64, object_content=bytes(FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE))
    assert largest.ByteSize() * 3 < MOST_BYTES
    assert MAX_JSON * 4 < MOST_BYTES
    num = 140_000_000_000 // FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE  # bytes of 70 billion parameters in bfloat16
    tree = ObjectTree(object_id="a" * 64, children=[ObjectTree(object_id="b" * 64) for _ in range(num)])
    assert tree.ByteSize() * 3 < MOST_BYTES


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
