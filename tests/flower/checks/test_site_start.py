"""``fedmedlora site start`` before a server that is not to be trusted: not joined, and told why."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import timedelta

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.provision.keys import new_key_pair

START_S = 90.0


def test_a_certificate_that_has_ended_is_refused_and_the_terminal_says_so(tls_server, authority, tmp_path):
    port = tls_server(begins=timedelta(days=-3), days=2).port
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    (tmp_path / "site.key").write_bytes(new_key_pair("lakeside").private)
    (tmp_path / "site.key").chmod(0o600)
    (tmp_path / "train.jsonl").touch()  # notes; nobody reads them here
    (tmp_path / "site.toml").write_text(
        f'name = "lakeside"\ntrain = "train.jsonl"\n[coordinator]\naddress = "127.0.0.1:{port}"\n'
    )
    said = tmp_path / "said.txt"
    with said.open("wb") as out:
        site = subprocess.Popen(
            [sys.executable, "-m", "fedmedlora", "site", "start", str(tmp_path / "site.toml")],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            stdout=out, stderr=out, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_S
        while "the coordinator's certificate" not in said.read_text() and time.monotonic() < deadline:
            time.sleep(0.2)
        site.terminate()
        assert site.wait(60) == 0
    finally:
        site.kill()
        site.wait()
    log = (tmp_path / "state" / "log" / "supernode.log").read_text()
    told = said.read_text()
    assert "the coordinator's certificate has ended, or this machine's clock is ahead" in told, told + log
    assert "certificate has expired" in log
    assert "connected to" not in told
