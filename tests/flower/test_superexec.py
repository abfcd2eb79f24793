"""Processes that answer questions are forked from one that has its libraries, or started as Flower does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult, subprocess_executor

from fedmedlora.flower import ready
from fedmedlora.flower.loopback import free_port
from fedmedlora.flower.superexec import READY, ReadyExecutor, arguments, start_superexec

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
forks = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
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
    until(lambda: not executor._ready.is_up)
    executor.launch(SPEC)
    until(lambda: len(took()) == 2)
    assert len({line.split()[0] for line in took()}) == 2
    assert flowers_own == []


def test_one_that_was_killed_before_it_was_ready_is_started_again(tmp_path, flowers_own):
    killed, took = tmp_path / "killed", tmp_path / "took.txt"
    first = f"import os, pathlib, signal\nmark = pathlib.Path({str(killed)!r})\n"
    first += "if not mark.exists():\n    mark.touch()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    executor = ReadyExecutor((sys.executable, "-c", first + TAKES, str(took)))
    executor.launch(SPEC)
    until(took.exists)
    executor.close()
    assert killed.exists()
    assert flowers_own == []


@pytest.mark.parametrize(
    "command",
    [(sys.executable, "-c", "import sys; sys.exit(1)"), ("/nowhere/python",)],
    ids=["ends", "missing"],
)
def test_where_it_cannot_be_had_flower_starts_them_and_that_is_said(flowers_own, caplog, command):
    executor = ReadyExecutor(command)
    for number in (1, 2):
        assert executor.launch(SPEC) == LaunchResult.accepted()
        assert len(flowers_own) == number
    executor.close()
    assert len(caplog.records) == 1


def test_what_else_a_supernode_may_start_is_left_alone():
    process = start_superexec([sys.executable, "-c", "import sys; sys.exit(7)"])
    assert process.wait(60) == 7
    assert process.args[0] == sys.executable


@forks
def test_a_supernode_ends_with_its_superexec(tmp_path):
    """As it is then started again: Flower leaves it running, and nobody answers any more."""
    (tmp_path / "site.toml").write_text('name = "mercy"\ntrain = "train.jsonl"\n')
    (tmp_path / "peft.py").write_text("raise SystemExit('of the folder it is started in')")
    (tmp_path / "fedmedlora.py").write_text("raise SystemExit('of the folder it is started in')")
    log = tmp_path / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fedmedlora.flower.site_program", "--site", "site.toml",
             "--insecure", "--superlink", "127.0.0.1:9", "--port", str(free_port())],
            cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        until(lambda: "Starting Flower SuperExec" in log.read_text())  # SuperExec's own line
        found = descendants(process.pid)
        (superexec,) = (pid for pid, line in found.items() if "flower.superexec" in line)
        assert not any("flower.ready" in line for line in found.values()), "nothing was asked yet"
        os.kill(superexec, signal.SIGKILL)
        process.wait(60)
        assert "SuperExec ended with status -9" in log.read_text()
        until(lambda: not any(is_running(pid) for pid in found))
        assert "the folder it is started in" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def descendants(pid: int) -> dict[int, str]:
    """Processes that ``pid`` has started, and those that they have: their command lines."""
    found: dict[int, str] = {}
    for child in children(pid):
        with contextlib.suppress(OSError):
            found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            found |= descendants(child)
    return found


def children(pid: int) -> list[int]:
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread may have ended; its children are another's then
            found += [int(one) for one in file.read_text().split()]
    return found


@dataclass
class Running:
    """``ready.py``, as SuperExec starts it; ``before`` is run before it. All that it writes is in ``log``."""

    folder: Path
    before: str = ""

    def __post_init__(self) -> None:
        self.log = self.folder / "log.txt"
        self._said, says = os.pipe()
        script = (
            f"{self.before}\nimport runpy\nrunpy.run_module('fedmedlora.flower.ready', run_name='__main__')"
        )
        command = [sys.executable, "-P", "-c", script] if self.before else [*READY]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, str(says)],
                env={**os.environ, "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}"},
                cwd=self.folder,
                stdin=subprocess.PIPE, stdout=out, stderr=out, bufsize=0, pass_fds=(says,),
            )  # fmt: skip
        os.close(says)
        self.is_ready = os.read(self._said, 1) == b"."
        os.close(self._said)

    def fork(self, *arguments: str, silent: bool = False) -> None:
        assert self.process.stdin is not None
        asked = {"arguments": ["--insecure", *arguments], "silent": silent}
        self.process.stdin.write(json.dumps(asked).encode() + b"\n")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()


@pytest.fixture
def run_ready(tmp_path):
    """Start ``ready.py``. A program ``flwr-clientapp`` there writes what it is started with to a file."""
    program, running = tmp_path / ready.PROGRAM, []
    program.write_text(f'#!/bin/sh\necho "$@ $(readlink /proc/$$/fd/1)" > {tmp_path}/started.txt\n')
    program.chmod(0o700)
    (tmp_path / "peft.py").write_text("raise SystemExit('of the folder it is started in')")

    def start(before: str = "") -> Running:
        running.append(Running(tmp_path, before))
        return running[-1]

    yield start
    for one in running:
        one.end()


@forks
def test_it_forks_processes_that_are_flowers_and_end_by_themselves(run_ready):
    """Nobody listens where the last one is to fetch its message."""
    running = run_ready()
    assert running.is_ready
    running.fork("--token", "secret", "--what", silent=True)
    running.fork("--token", "secret", "--whatever")
    until(lambda: "unrecognized arguments: --whatever" in running.log.read_text())
    until(lambda: not children(running.process.pid))
    running.fork(
        "--runtime-api-address", "127.0.0.1:9", "--token", "secret", "--parent-pid", str(os.getpid())
    )
    until(lambda: "Start `flwr-clientapp` process" in running.log.read_text())
    (forked,) = children(running.process.pid)
    # Other threads' locks would be held for ever in what is forked. OpenBLAS's end before the first fork.
    assert len(list(Path(f"/proc/{running.process.pid}/task").iterdir())) == 1
    assert Path(f"/proc/{forked}/comm").read_text().strip() == ready.PROGRAM
    assert b"secret" not in Path(f"/proc/{forked}/cmdline").read_bytes()
    assert str(Path(f"/proc/{forked}/fd/0").readlink()) == os.devnull
    assert running.log.read_text().count("unrecognized arguments") == 1
    running.process.stdin.close()
    assert running.process.wait(30) == 0
    os.kill(forked, signal.SIGTERM)
    until(lambda: not is_running(forked))
    assert not (running.folder / "started.txt").exists()


@forks
@pytest.mark.parametrize(
    ("before", "silent"),
    [
        ("import fedmedlora.model.forking as it\nit.has_lost_gpu = lambda: True", False),
        ("import os, errno\ndef fork():\n    raise OSError(errno.ENOMEM, 'no')\nos.fork = fork", True),
    ],
    ids=["a fork could not use the GPU", "no memory for a fork"],
)
def test_what_cannot_be_forked_is_started_as_flower_does(run_ready, before, silent):
    running = run_ready(before)
    running.fork("--token", "it", silent=silent)
    started = running.folder / "started.txt"
    until(lambda: started.exists() and started.read_text().endswith("\n"))
    assert started.read_text().split() == [
        "--insecure",
        "--token",
        "it",
        os.devnull if silent else str(running.log),
    ]


@forks
def test_where_a_library_opens_the_gpu_nothing_is_forked(run_ready):
    running = run_ready("import torch\ntorch.cuda.is_initialized = lambda: True")
    assert not running.is_ready
    assert running.process.wait(30) == 1
    assert "opened the GPU" in running.log.read_text()


def is_running(pid: int) -> bool:
    """Whether there is such a process that nobody has to clear away only."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
