"""Kits, a coordinator and sites for real, on loopback: TLS, keys, and the way back after a crash."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER

from fedmedlora.cli import main
from fedmedlora.flower.loopback import free_port
from fedmedlora.provision.consortium import Consortium, CoordinatorPlace, Member
from fedmedlora.provision.keys import new_key_pair, to_pem
from fedmedlora.provision.kit import provision

START_S = 40.0


@dataclass
class Stage:
    """Kits in a folder, and the programs that were started with them."""

    kits: Path
    port: int
    control: int
    started: list[tuple[str, subprocess.Popen, Path]] = field(default_factory=list)

    def start(self, *words: str) -> subprocess.Popen:
        """``fedmedlora WORDS``, as a user would, with nothing of this test's environment but the PATH."""
        said = self.kits.parent / f"{len(self.started)}-{words[0]}.txt"
        with said.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "fedmedlora", *words],
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(self.kits.parent / "home"),
                    "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
                    # Nothing of it may be asked for what is on this machine.
                    "https_proxy": "http://127.0.0.1:9",
                },
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )
        self.started.append((" ".join(words[:2]), process, said))
        return process

    def said(self, process: subprocess.Popen) -> str:
        """What ``process`` has written so far."""
        return next(path for _, one, path in self.started if one is process).read_text()

    def everything(self) -> str:
        """What all programs wrote and logged, for a failure's message."""
        logs = [*(path for _, _, path in self.started), *self.kits.rglob("*.log")]
        return "\n".join(f"--- {path}\n{path.read_text(errors='replace')[-3000:]}" for path in logs)

    def wait(self, condition, what: str) -> None:
        """Until ``condition()``."""
        deadline = time.monotonic() + START_S
        while not condition():
            assert time.monotonic() < deadline, f"not in {START_S:.0f} s: {what}\n{self.everything()}"
            time.sleep(0.2)

    def ask(self, port: int, method: str, path: str, body: bytes = b"", **headers: str) -> int:
        """The status of an answer over verified TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.kits / "lakeside" / "ca.crt")
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
        with contextlib.closing(connection):
            protobuf = {"Content-Type": "application/protobuf", "Accept": "application/protobuf"}
            connection.request(method, path, body=body, headers=protobuf | headers)
            return connection.getresponse().status


@pytest.fixture
def stage(tmp_path) -> Iterator[Stage]:
    port, control = free_port(), free_port()
    consortium = Consortium(
        "Two hospitals",
        coordinator=CoordinatorPlace(f"127.0.0.1:{port}", listen=f"127.0.0.1:{port}", control_port=control),
        sites=(Member("lakeside"), Member("northgate")),
    )
    provision(consortium, tmp_path / "kits", datetime.now(UTC))
    found = Stage(tmp_path / "kits", port, control)
    try:
        yield found
    finally:
        for _, process, _ in found.started:
            process.terminate()
        for _, process, _ in found.started:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def listening(pid: int) -> set[tuple[str, int]]:
    """(address, port) on which ``pid`` takes connections, by what Linux says."""
    inodes = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(handle.readlink()))
    found = set()
    for table, width in (("tcp", 4), ("tcp6", 16)):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                host, port = words[1].split(":")
                raw = b"".join(bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, 2 * width, 8))
                family = socket.AF_INET if width == 4 else socket.AF_INET6
                found.add((socket.inet_ntop(family, raw), int(port, 16)))
    return found


def child_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def family_of(pid: int) -> list[int]:
    """``pid`` and everything that it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [p for child in (task / "children").read_text().split() for p in family_of(int(child))]
    return found


def activation(key_file: Path, ahead: timedelta) -> tuple[bytes, dict[str, str]]:
    """What a SuperNode with that key sends first, dated by a clock that is ``ahead``."""
    private = serialization.load_ssh_private_key(key_file.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    public = to_pem(key_file.with_suffix(".pub").read_bytes())
    dated = (datetime.now(UTC) + ahead).isoformat()
    signature = private.sign(dated.encode("ascii"), ec.ECDSA(hashes.SHA256()))
    headers = {
        FLEET_HTTP_PUBLIC_KEY_HEADER: base64.b64encode(public).decode(),
        TIMESTAMP_HEADER: dated,
        FLEET_HTTP_SIGNATURE_HEADER: base64.b64encode(signature).decode(),
    }
    request = ActivateNodeRequest(public_key=public, heartbeat_interval=30)
    return request.SerializeToString(), headers


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_registered_site_joins_and_nobody_else(stage, capsys):
    coordinator_toml = str(stage.kits / "coordinator" / "coordinator.toml")

    def status() -> dict:
        capsys.readouterr()
        assert main(["coordinator", "status", coordinator_toml, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    def is_connected(name: str) -> bool:
        return {site["name"]: site["connected"] for site in status()["sites"]}[name]

    assert status() == {
        "address": f"127.0.0.1:{stage.port}",
        "pid": 0,
        "answers": False,
        "sites": [
            {"name": name, "registered": False, "connected": False, "since": ""}
            for name in ("lakeside", "northgate")
        ],
    }

    # A stranger with the consortium's address and certificate, and a key of its own.
    stranger = stage.kits / "stranger"
    stranger.mkdir(mode=0o700)
    text = (stage.kits / "northgate" / "site.toml").read_text()
    (stranger / "site.toml").write_text(
        "\n".join(line for line in text.splitlines() if not line.startswith("key_fingerprint"))
    )
    (stranger / "ca.crt").write_bytes((stage.kits / "northgate" / "ca.crt").read_bytes())
    pair = new_key_pair("northgate")
    (stranger / "site.key").write_bytes(pair.private)
    (stranger / "site.key").chmod(0o600)
    (stranger / "site.pub").write_bytes(pair.public)
    for folder in (stranger, stage.kits / "lakeside", stage.kits / "northgate"):
        (folder / "train.jsonl").touch()  # notes; nobody reads them here

    coordinator = stage.start("coordinator", "start", coordinator_toml)
    lakeside = stage.start("site", "start", str(stage.kits / "lakeside" / "site.toml"))
    intruder = stage.start("site", "start", str(stranger / "site.toml"))
    stage.wait(lambda: is_connected("lakeside"), "lakeside is connected")
    found = status()
    assert (found["pid"], found["answers"]) == (coordinator.pid, True)
    by_name = {site["name"]: site for site in found["sites"]}
    assert by_name["lakeside"]["since"]
    assert by_name["northgate"] == {
        "name": "northgate", "registered": True, "connected": False, "since": "",
    }  # fmt: skip
    stage.wait(lambda: "connected to" in stage.said(lakeside), "lakeside says so")
    stage.wait(lambda: "does not take this site's key" in stage.said(intruder), "the stranger is refused")
    assert "connected to" not in stage.said(intruder)
    assert "newly registered: lakeside, northgate" in stage.said(coordinator)

    # Who listens where: the site's programs for this machine alone, SuperLink where it was told to.
    superlink = child_of(coordinator.pid)
    assert listening(superlink) == {("127.0.0.1", stage.port), ("127.0.0.1", stage.control)}
    heard = set().union(*(listening(pid) for pid in family_of(lakeside.pid)))
    assert len(heard) == 1
    assert {host for host, _ in heard} == {"127.0.0.1"}

    # What the sites' port answers: Fleet, and no more; and nothing without TLS.
    assert stage.ask(stage.port, "GET", "/health") == 200
    for path in ("/v1/control/list-nodes", "/v1/control/start-run", "/v1/runtime/acquire-task", "/docs"):
        assert stage.ask(stage.port, "POST", path) == 404
    assert stage.ask(stage.control, "POST", "/v1/control/list-nodes") == 200
    plain = http.client.HTTPConnection("127.0.0.1", stage.port, timeout=10)
    plain.request("GET", "/health")
    with contextlib.closing(plain), pytest.raises((OSError, http.client.HTTPException)):
        plain.getresponse()

    # A registered key by a clock that is wrong, and a key that nobody knows.
    for ahead_s, expected in ((200, 401), (-490, 401), (120, 200)):
        key = stage.kits / "northgate" / "site.key"
        body, headers = activation(key, timedelta(seconds=ahead_s))
        answered = stage.ask(stage.port, "POST", "/v1/fleet/activate-node", body, **headers)
        assert answered == expected, ahead_s
    body, headers = activation(stranger / "site.key", timedelta(0))
    assert stage.ask(stage.port, "POST", "/v1/fleet/activate-node", body, **headers) == 412
    assert is_connected("northgate")

    # SuperLink dies: it comes back on its database, and so does the site.
    os.kill(superlink, signal.SIGKILL)
    stage.wait(lambda: "SuperLink ended with status -9" in stage.said(coordinator), "it is noticed")
    stage.wait(lambda: status()["answers"] and is_connected("lakeside"), "both are back")
    assert child_of(coordinator.pid) != superlink
    assert status()["pid"] == coordinator.pid

    # All end when told to, and the last word is theirs.
    lakeside.terminate()
    assert lakeside.wait(30) == 0
    assert "lakeside has left" in stage.said(lakeside)
    assert not is_connected("lakeside")
    assert main(["coordinator", "stop", coordinator_toml]) == 0
    assert coordinator.wait(10) == 0
    assert main(["coordinator", "stop", coordinator_toml]) == 0
    assert "it was not running" in capsys.readouterr().out
    assert not (stage.kits.parent / "home").exists()
