"""Programs are started again when they end, ever later, and end with all that they started when told to."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fedmedlora.flower import supervise
from fedmedlora.flower.supervise import Backoff, Kept, Program, keep_running, told_to_stop


def program(tmp_path, code: str) -> Program:
    return Program("Program", (sys.executable, "-c", code), dict(os.environ), tmp_path / "log" / "p.log")


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    return False


def wait_for(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_waits_double_up_to_a_limit():
    backoff = Backoff(first_s=1, most_s=30)
    assert [backoff.wait_s(n) for n in (1, 2, 3, 4, 5, 6, 7, 1000)] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_program_is_started_again_when_its_wait_is_over(tmp_path):
    said: list[str] = []
    now = [0.0]
    kept = Kept(program(tmp_path, "print('here'); raise SystemExit(3)"), said.append, clock=lambda: now[0])

    def runs_and_ends() -> None:
        kept.tick()
        wait_for(lambda: not kept.is_running)
        kept.tick()  # notices the end

    # Ends at once: 1 s, then 2 s; runs for 61 s: well, so 1 s again.
    runs_and_ends()
    assert kept.num_starts == 1
    now[0] = 0.9
    kept.tick()
    assert kept.num_starts == 1
    now[0] = 1.0
    runs_and_ends()
    assert kept.num_starts == 2
    now[0] = 3.0
    kept.tick()
    wait_for(lambda: not kept.is_running)
    now[0] = 64.0
    kept.tick()
    assert [line.split("; ")[0] for line in said] == [
        "Program ended with status 3 after 0 s",
        "Program ended with status 3 after 0 s",
        "Program ended with status 3 after 61 s",
    ]
    assert [line.split("started again in ")[1].split(" s")[0] for line in said] == ["1", "2", "1"]
    assert kept.program.log.read_text() == "here\n" * 3
    assert kept.log_from == len("here\n") * 2  # where the last start begins
    assert kept.program.log.stat().st_mode & 0o777 == 0o600


def test_a_long_log_is_put_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(supervise, "MAX_LOG_BYTES", 10)
    kept = Kept(program(tmp_path, "pass"), lambda line: None)
    kept.program.log.parent.mkdir()
    kept.program.log.write_text("x" * 11)
    kept.tick()
    kept.stop()
    assert kept.program.log.read_text() == ""
    assert kept.program.log.with_name("p.log.1").read_text() == "x" * 11


TREE = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def child_of(kept: Kept) -> int:
    wait_for(lambda: kept.program.log.exists() and kept.program.log.read_text().endswith("\n"))
    return int(kept.program.log.read_text())


def test_stopping_ends_the_program_and_its_children(tmp_path):
    kept = Kept(program(tmp_path, TREE), lambda line: None)
    kept.tick()
    child, own = child_of(kept), kept.pid
    assert is_alive(own)
    kept.stop()
    assert not is_alive(own)
    wait_for(lambda: not is_alive(child))
    assert kept.pid == 0
    kept.stop()  # once more does nothing


def test_what_does_not_listen_is_ended_all_the_same(tmp_path):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    kept = Kept(program(tmp_path, code), lambda line: None)
    kept.tick()
    child_of(kept)
    own = kept.pid
    kept.stop(grace_s=0.2)
    assert not is_alive(own)


def test_children_of_a_program_that_died_are_ended_before_it_is_started_again(tmp_path):
    kept = Kept(program(tmp_path, TREE), lambda line: None, Backoff(first_s=1000))
    kept.tick()
    child = child_of(kept)
    os.kill(kept.pid, signal.SIGKILL)
    wait_for(lambda: not kept.is_running)
    kept.tick()
    wait_for(lambda: not is_alive(child))


def test_all_end_when_told_and_when_something_breaks(tmp_path):
    kept = [Kept(program(tmp_path, "import time; time.sleep(60)"), lambda line: None) for _ in range(2)]
    stopping = threading.Event()
    pids: list[int] = []

    def beside() -> None:
        pids.extend(one.pid for one in kept)
        stopping.set()

    keep_running(kept, stopping, beside)
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)

    def breaks() -> None:
        pids.extend(one.pid for one in kept)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        keep_running(kept, threading.Event(), breaks)
    assert len(pids) == 4
    assert not any(is_alive(pid) for pid in pids)


def test_signals_are_heard_within_the_block_only():
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = signal.getsignal(signal.SIGTERM)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may be run by `nohup`
    try:
        for number in numbers:
            with told_to_stop() as stopping:
                assert not stopping.is_set()
                os.kill(os.getpid(), number)
                assert stopping.wait(5)
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGHUP, hangup)


AT_A_BAD_MOMENT = """
import os, signal
from fedmedlora.flower.supervise import told_to_stop
with told_to_stop() as stopping:
    with stopping._cond:  # as in `wait`, before and after it waits
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopping.wait(20)
"""


def test_a_signal_amid_a_wait_is_heard():
    """In a program of its own: one that does not hear it stands still for good."""
    assert subprocess.run([sys.executable, "-c", AT_A_BAD_MOMENT], timeout=60).returncode == 0


def test_a_terminal_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with told_to_stop() as stopping:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopping.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


SUPERVISOR = """
import sys, os
from pathlib import Path
from fedmedlora.flower.supervise import Kept, Program, keep_running, told_to_stop
code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
program = Program("p", (sys.executable, "-c", code), dict(os.environ), Path(sys.argv[1]))
with told_to_stop() as stopping:
    keep_running([Kept(program, print)], stopping)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.skipif(sys.platform != "linux", reason="the leash is Linux's")
def test_nothing_outlives_its_supervisor(tmp_path, number):
    log = tmp_path / "p.log"
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(log)])
    try:
        wait_for(lambda: log.exists() and log.read_text().endswith("\n"))
        pid = int(log.read_text())
        assert is_alive(pid)
        supervisor.send_signal(number)
        assert supervisor.wait(10) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        wait_for(lambda: not is_alive(pid))
    finally:
        supervisor.kill()
        supervisor.wait()
