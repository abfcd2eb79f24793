"""The way to the coordinator, against real TLS servers: right, wrong authority, wrong name, wrong time."""

from __future__ import annotations

import contextlib
import socket
import threading
from datetime import UTC, datetime, timedelta

import pytest

from fedmedlora.flower.checks.connection import Route, check_address, check_certificate, check_clock
from fedmedlora.provision.address import Address
from fedmedlora.provision.authority import new_authority, new_key


def now() -> datetime:
    return datetime.now(UTC)


def route(port: int, host: str = "127.0.0.1", proxy: str = "") -> Route:
    return Route(Address(host, port), proxy, timeout_s=2.0)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_all_is_well(tls_server, authority):
    to = route(tls_server().port)
    assert check_address(to).ok
    found = check_certificate(to, authority.certificate, now())
    assert (found.ok, found.advice) == (True, "")
    assert "signed by the consortium's authority" in found.found
    clock = check_clock(to, authority.certificate, now)
    assert (clock.ok, clock.advice) == (True, "")
    assert clock.found.startswith(("0 s", "1 s"))


# --- address ----------------------------------------------------------------------------------------------


def test_nobody_listens():
    found = check_address(route(closed_port()))
    assert not found.ok
    assert "refused" in found.found
    assert "firewall" in found.advice


def test_a_name_that_is_not_known():
    found = check_address(route(8000, "no-such-host.invalid"))
    assert not found.ok
    assert "not known here" in found.found


def test_no_answer_at_all():
    with socket.socket() as full:  # a queue that is full drops what comes
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
            found = check_address(Route(Address("127.0.0.1", port), timeout_s=0.3))
    assert not found.ok
    assert "no answer within 0 s" in found.found
    assert "web proxy" in found.advice


# --- certificate ------------------------------------------------------------------------------------------


def test_another_authority_of_the_same_name(tls_server, authority):
    other = new_authority("Three hospitals", new_key(), now())
    found = check_certificate(route(tls_server(signer=other).port), authority.certificate, now())
    assert not found.ok
    assert "not signed by the consortium's authority" in found.found
    assert "Do not replace ca.crt" in found.advice


def test_another_name(tls_server, authority):
    to = route(tls_server(hosts=("coordinator.example", "192.0.2.7")).port)
    found = check_certificate(to, authority.certificate, now())
    assert not found.ok
    assert "holds for coordinator.example, 192.0.2.7, not for 127.0.0.1" in found.found
    assert "site.toml" in found.advice


def test_a_certificate_that_has_ended(tls_server, authority):
    to = route(tls_server(begins=timedelta(days=-3), days=2).port)
    found = check_certificate(to, authority.certificate, now())
    assert not found.ok
    assert "this machine's clock says" in found.found
    assert "--renew" in found.advice
    # The clock is right, and says so although the certificate does not verify.
    clock = check_clock(to, authority.certificate, now)
    assert clock.ok
    assert "could not be verified" in clock.found


def test_a_certificate_that_has_not_begun(tls_server, authority):
    found = check_certificate(route(tls_server(begins=timedelta(hours=2)).port), authority.certificate, now())
    assert not found.ok
    assert "correct the clock" in found.advice
    # Made just now, it holds for a clock that is an hour behind.
    assert check_certificate(
        route(tls_server(begins=timedelta(minutes=59)).port), authority.certificate, now()
    ).ok


def test_a_certificate_that_ends_soon(tls_server, authority):
    found = check_certificate(route(tls_server(days=10).port), authority.certificate, now())
    assert found.ok
    assert "renew" in found.advice


def test_no_tls(plain_server, authority):
    found = check_certificate(route(plain_server), authority.certificate, now())
    assert not found.ok
    assert "no TLS there" in found.found


def test_an_authority_that_is_none(tls_server):
    found = check_certificate(route(tls_server().port), b"hello", now())
    assert not found.ok


# --- clock ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there_ahead_s", "ok", "advised", "words"),
    [
        (-120, True, True, "120 s ahead of"),  # two minutes off are taken, both ways
        (120, True, True, "120 s behind"),
        (-160, False, True, "160 s ahead of"),
        (440, True, True, "440 s behind"),
        (460, False, True, "460 s behind"),
        (-86400, False, True, "ahead of"),
    ],
)
def test_clocks_that_differ(tls_server, authority, there_ahead_s, ok, advised, words):
    to = route(tls_server(ahead=timedelta(seconds=there_ahead_s)).port)
    found = check_clock(to, authority.certificate, now)
    assert found.ok == ok
    assert bool(found.advice) == advised
    number, rest = words.split(" ", 1) if words[0].isdigit() else ("", words)
    assert rest in found.found
    if number:
        assert abs(int(found.found.split()[0]) - int(number)) <= 1


def test_an_answer_without_a_date(tls_server, authority):
    found = check_clock(route(tls_server(dated=False).port), authority.certificate, now)
    assert not found.ok
    assert "could not be compared" in found.found


def test_no_answer_to_date(authority):
    found = check_clock(route(closed_port()), authority.certificate, now)
    assert not found.ok
    assert "see to the connection first" in found.advice


# --- proxy ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def proxy(allow: bool):
    """A web proxy that takes one CONNECT after the other: the port, and what it was asked."""
    asked: list[str] = []
    server = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            head = b""
            while b"\r\n\r\n" not in head:
                head += near.recv(4096)
            target = head.split()[1].decode()
            asked.append(target)
            if not allow:
                near.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                near.close()
                continue
            host, _, number = target.rpartition(":")
            far = socket.create_connection((host, int(number)))
            near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(far, near), daemon=True)
            back.start()
            pump(near, far)
            back.join(2)
            near.close()
            far.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1], asked
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


def test_through_a_proxy(tls_server, authority):
    server = tls_server()
    with proxy(allow=True) as (port, asked):
        to = route(server.port, proxy=f"http://127.0.0.1:{port}")
        assert check_address(to).ok
        assert check_certificate(to, authority.certificate, now()).ok
        assert check_clock(to, authority.certificate, now).ok
    assert set(asked) == {f"127.0.0.1:{server.port}"}


def test_a_proxy_that_refuses(tls_server, authority):
    with proxy(allow=False) as (port, _):
        to = route(tls_server().port, proxy=f"http://127.0.0.1:{port}")
        found = check_address(to)
    assert not found.ok
    assert "403" in found.found
