"""The real server on a free port, asked over a socket: what is there, and everything that is not."""

import contextlib
import http.client
import json
import socket
import threading

import pytest
from interruptible import PROGRAM
from made_up_watch import live_record, round_record, write_run, write_state

from fedmedlora.live_record import utc_now
from fedmedlora.watch import metrics, server
from fedmedlora.watch.page import policy
from fedmedlora.watch.reading import find, read_status
from fedmedlora.watch.server import Server, serve


@pytest.fixture
def running(tmp_path):
    """A server of a run that is alive."""
    write_run(tmp_path / "out", {"fed_medlora": [round_record(1)]})
    state = write_state(tmp_path / "state", tmp_path / "out", live_record(written_utc=utc_now()))
    with Server(0, lambda: read_status(find(state))) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ask(running, path="/", method="GET", host=None, body=None):
    """(status, headers, body)."""
    port = running.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name in [f"127.0.0.1:{port}"] if host is None else host:
        connection.putheader("Host", name)
    if body:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def raw(running, data: bytes) -> bytes:
    """What comes back for bytes that may be no request at all."""
    with socket.create_connection(("127.0.0.1", running.server_address[1]), timeout=20) as there:
        there.sendall(data)
        with contextlib.suppress(OSError):  # the other side has answered and gone already
            there.shutdown(socket.SHUT_WR)
        found = b""
        while piece := there.recv(65536):
            found += piece
    return found


def test_it_listens_on_this_machine_alone(running):
    assert running.server_address[0] == "127.0.0.1"
    assert running.address == f"http://127.0.0.1:{running.server_address[1]}/"


def test_the_page(running):
    code, headers, body = ask(running)
    assert (code, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Content-Security-Policy"] == policy()
    assert b"Three hospitals" in body


def test_the_numbers(running):
    code, headers, body = ask(running, "/status.json")
    assert (code, headers["Content-Type"]) == (200, "application/json")
    found = json.loads(body)
    assert (found["stage"], found["is_alive"], found["num_done"]) == ("training", True, 1)
    assert body.count(b"\n") == 1


def test_the_metrics(running):
    pytest.importorskip("prometheus_client", reason="pip install 'fedmedlora[metrics]'")
    code, headers, body = ask(running, "/metrics")
    assert (code, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b'fedmedlora_site_connected{site="lakeside"} 1.0\n' in body


def test_health(running):
    assert ask(running, "/health")[0::2] == (200, b"ok\n")


@pytest.mark.parametrize("path", ["/", "/status.json", "/health", "/gone"])
def test_what_every_answer_says(running, path):
    _, headers, _ = ask(running, path)
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Server"] == "fedmedlora"
    assert not [name for name in headers if name.startswith("Access-Control")]
    assert "Date" in headers  # by which the page's script sets its clock


SECRET = "s3cr3t-path"


@pytest.mark.parametrize(
    "path",
    [
        f"/{SECRET}",
        "/index.html",
        "//",
        "///status.json",
        "/./",
        "/?",
        f"/?{SECRET}=1",
        "/status.json/",
        "/status.json?x",
        "/STATUS.JSON",
        "/../status.json",
        "/../../../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e/live.json",
        "/live.json",
        "/out/results.json",
        "http://127.0.0.1/",
        "/metrics%00",
        "/\\..\\x",
    ],
)
def test_there_is_nothing_else(running, path):
    code, headers, body = ask(running, path)
    assert (code, body) == (404, b"Not Found\n")
    assert SECRET not in str(headers)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "X"])
def test_get_and_nothing_else(running, method):
    code, headers, body = ask(running, "/", method, body=b"x=1" if method == "POST" else None)
    assert (code, headers["Allow"]) == (405, "GET")
    assert body in (b"Method Not Allowed\n", b"")  # http.client reads no body of HEAD


@pytest.mark.parametrize(
    "host",
    [
        ["attacker.example"],
        ["attacker.example:8790"],
        ["127.0.0.1.attacker.example"],
        ["attacker.example:127.0.0.1"],
        ["127.0.0.1@attacker.example"],
        ["localhost.attacker.example"],
        ["127.0.0.2"],
        ["0.0.0.0"],
        ["[::1]"],
        [""],
        [],
        ["127.0.0.1", "attacker.example"],
        ["127.0.0.1:80:80"],
        ["127.0.0.1:x"],
    ],
)
def test_another_host_is_refused(running, host):
    for path in ("/", "/status.json", "/metrics", "/health"):
        code, _, body = ask(running, path, host=host)
        assert (code, body) == (421, b"Misdirected Request\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:8790", "127.0.0.1:1"])
def test_this_host_is_served_at_any_port(running, host):  # a tunnel has another one
    assert ask(running, "/health", host=[host])[0] == 200


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (f"GET {SECRET}\r\n\r\n".encode(), b"Misdirected Request\n"),  # so old that it names no host
        (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", b"HTTP Version Not Supported\n"),
        (b"GET /\r\n\r\n", b"Misdirected Request\n"),
        (b"GET / HTTP/1.0\r\n\r\n", b"Misdirected Request\n"),
        (f"{SECRET}\r\n\r\n".encode(), b"Bad Request\n"),
        (b"GET /" + SECRET.encode() * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"URI Too Long\n"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 200 + b"\r\n",
            b"Header Fields Too Large\n",
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"Bad Request\n"),
    ],
)
def test_what_is_no_request(running, data, said):
    found = raw(running, data)
    assert found.endswith(said)
    assert SECRET.encode() not in found
    assert b"Three hospitals" not in found


def test_two_requests_on_one_connection(running):
    one = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw(running, one + one).count(b"ok\n") == 2
    # What is refused ends the connection: a body would be read as the next request.
    smuggled = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(one)
    found = raw(running, smuggled + one)
    assert found.count(b"HTTP/1.1 ") == 1
    assert b"ok\n" not in found


def test_nothing_of_a_request_is_logged(running, capfd, caplog):
    ask(running, f"/{SECRET}")
    raw(running, f"{SECRET}\r\n\r\n".encode())
    with socket.create_connection(("127.0.0.1", running.server_address[1])) as gone:
        gone.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert ask(running, "/health")[0] == 200
    said = capfd.readouterr()
    assert (said.out, said.err, caplog.text) == ("", "", "")


def test_a_failure_of_ours_is_logged_without_the_request(running, caplog):
    running.read = lambda: {}["overlooked"]
    assert raw(running, f"GET /health HTTP/1.1\r\nHost: localhost\r\nA: {SECRET}\r\n\r\n".encode()) == b""
    assert "KeyError: 'overlooked'" in caplog.text
    assert SECRET not in caplog.text


def test_a_connection_that_says_nothing_is_closed(running, monkeypatch):
    monkeypatch.setattr(server._Handler, "timeout", 0.1)
    with socket.create_connection(("127.0.0.1", running.server_address[1]), timeout=20) as idle:
        assert idle.recv(10) == b""


def test_what_cannot_be_read_is_said(running, tmp_path):
    (tmp_path / "out" / "methods" / "fed_medlora" / "round-001.json").write_text("{")
    code, headers, body = ask(running, "/")
    assert (code, headers["Content-Security-Policy"]) == (503, policy())
    assert b"round-001.json: damaged" in body
    code, _, body = ask(running, "/status.json")
    assert code == 503
    assert "round-001.json: damaged" in json.loads(body)["error"]
    for path in ("/metrics", "/health"):
        assert ask(running, path)[0::2] == (503, b"the run's files cannot be read\n")


def test_without_the_package_of_metrics(running, monkeypatch):
    monkeypatch.setattr(server, "is_installed", lambda: False)
    assert ask(running, "/metrics")[0::2] == (501, f"{metrics.HOW}\n".encode())


def test_a_port_that_is_taken(running, tmp_path):
    with pytest.raises(ValueError, match="cannot be listened on"):
        serve(tmp_path / "state", running.server_address[1], print)
    with pytest.raises(ValueError, match="port 99999: cannot be listened on"):
        serve(tmp_path / "state", 99999, print)
    with pytest.raises(ValueError, match="no such folder"):
        serve(tmp_path / "gone", 0, print)


def test_the_command_serves_until_it_is_interrupted(tmp_path):
    import os
    import signal
    import subprocess
    import sys

    state = write_state(tmp_path / "state", tmp_path / "out", live_record(written_utc=utc_now()))
    command = [sys.executable, "-c", PROGRAM, "watch", str(state), "--serve", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as program:
        address = program.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        port = int(address.rstrip("/").rsplit(":", 1)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/status.json")
        assert json.loads(connection.getresponse().read())["study"] == "Three hospitals"
        connection.close()
        program.send_signal(signal.SIGINT)
        try:
            out, err = program.communicate(timeout=30)
        finally:
            program.kill()
    assert program.returncode == 130
    assert out == ""
    assert "interrupted" in err
    assert "Traceback" not in err
