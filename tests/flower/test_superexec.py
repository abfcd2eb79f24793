"""Processes that answer questions are forked from one that has its libraries, or started as Flower does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult, subprocess_executor

from fedmedlora.flower import ready
from fedmedlora.flower.superexec import PROGRAM, READY, ReadyExecutor, arguments, write_program

SPEC = ExecutionSpec(
    task_type=TaskType.CLIENT_APP,
    runtime_api_address="127.0.0.1:9",
    token="secret-token",
    insecure=True,
    root_certificates_path=None,
    runtime_dependency_install=False,
    parent_pid=12,
    suppress_output=False,
    task_id=1,
)
# Says that it is ready, and writes the lines that come into the file.
TAKES = """
import os, pathlib, sys
os.write(int(sys.argv[2]), b".")
os.close(int(sys.argv[2]))
for line in sys.stdin:
    with open(sys.argv[1], "a") as out:
        out.write(f"{os.getpid()} {line}")
"""


@pytest.fixture
def flowers_own(monkeypatch) -> list[list[str]]:
    """What Flower's own executor starts, in place of starting it."""
    started: list[list[str]] = []

    class Fake:
        DEVNULL = subprocess.DEVNULL

        @staticmethod
        def Popen(command, **_):  # noqa: N802
            started.append(command)

    monkeypatch.setattr(subprocess_executor, "subprocess", Fake)
    return started


@pytest.fixture
def takes(tmp_path):
    """An executor whose process takes what it is asked for; and what that was, so far."""
    took = tmp_path / "took.txt"
    executor = ReadyExecutor((sys.executable, "-c", TAKES, str(took)))
    yield executor, lambda: took.read_text().splitlines() if took.exists() else []
    executor.close()


def until(condition, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("insecure", [True, False])
@pytest.mark.parametrize("certificates", [None, "ca.pem"])
@pytest.mark.parametrize("parent_pid", [None, 7])
def test_a_clientapp_is_given_what_flower_gives_it(flowers_own, insecure, certificates, parent_pid):
    spec = replace(SPEC, insecure=insecure, root_certificates_path=certificates, parent_pid=parent_pid)
    subprocess_executor.SubprocessExecutor().launch(spec)
    assert flowers_own == [[ready.PROGRAM, *arguments(spec)]]


def test_what_is_ready_is_asked_and_flower_starts_nothing(takes, flowers_own):
    executor, took = takes
    for _ in range(2):
        assert executor.launch(SPEC) == LaunchResult.accepted()
    until(lambda: len(took()) == 2)
    assert all('"--token", "secret-token"' in line for line in took())
    assert flowers_own == []


@pytest.mark.parametrize(
    "spec",
    [replace(SPEC, task_type=TaskType.SERVER_APP), replace(SPEC, runtime_dependency_install=True)],
    ids=["another kind of task", "with installing"],
)
def test_other_tasks_are_started_as_flower_does(takes, flowers_own, spec):
    executor, took = takes
    assert executor.launch(spec) == LaunchResult.accepted()
    assert len(flowers_own) == 1
    assert took() == []


def test_one_that_was_killed_is_started_again(takes, flowers_own):
    executor, took = takes
    executor.launch(SPEC)
    until(lambda: len(took()) == 1)
    os.kill(int(took()[0].split()[0]), signal.SIGKILL)
    until(lambda: executor._ready.has_ended)
    executor.launch(SPEC)
    until(lambda: len(took()) == 2)
    assert len({line.split()[0] for line in took()}) == 2
    assert flowers_own == []


def test_where_it_cannot_be_had_flower_starts_them(flowers_own):
    executor = ReadyExecutor((sys.executable, "-c", "import sys; sys.exit(1)"))
    for number in (1, 2):
        assert executor.launch(SPEC) == LaunchResult.accepted()
        assert len(flowers_own) == number
    executor.close()


def test_the_program_starts_it_whatever_the_folder_is_called(tmp_path):
    folder = tmp_path / "it's a $HOME"
    write_program(folder)
    path = f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin"
    command = ["/bin/sh", "-c", f"{PROGRAM} --version"]
    done = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout[:14]) == (0, "Flower version")
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
def test_it_forks_processes_that_are_flowers_and_end_by_themselves(tmp_path):
    """Nobody listens where they are to fetch their message: each says so, and ends."""
    log = tmp_path / "log.txt"
    with log.open("wb") as out:
        said, says = os.pipe()
        process = subprocess.Popen(
            [*READY, str(says)],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # which ends its threads before a fork
            stdin=subprocess.PIPE, stdout=out, stderr=out, bufsize=0, pass_fds=(says,),
        )  # fmt: skip
        os.close(says)
    assert process.stdin is not None
    try:
        assert os.read(said, 1) == b"."
        assert len(list(Path(f"/proc/{process.pid}/task").iterdir())) == 1
        for silent in ("false", "true"):
            line = f'{{"arguments": ["--insecure", "--token", "secret", "--what"], "silent": {silent}}}\n'
            process.stdin.write(line.encode())
        until(lambda: log.read_text().count("unrecognized arguments: --what") == 1)
        until(lambda: not children(process.pid))
        process.stdin.write(b'{"arguments": ["--insecure", "--token", "secret"], "silent": false}\n')
        until(lambda: "Start `flwr-clientapp` process" in log.read_text())
        (forked,) = children(process.pid)
        assert Path(f"/proc/{forked}/comm").read_text().strip() == ready.PROGRAM
        assert b"secret" not in Path(f"/proc/{forked}/cmdline").read_bytes()
        assert str(Path(f"/proc/{forked}/fd/0").readlink()) == os.devnull
        process.stdin.close()
        assert process.wait(30) == 0
        os.kill(forked, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{forked}").exists())
    finally:
        process.kill()
        os.close(said)


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
