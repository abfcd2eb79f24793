"""The log on the disk: stopped writers, full disks, and several processes that write."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedmedlora.audit import log_file
from fedmedlora.audit.chain import read_line
from fedmedlora.audit.entries import Fault, Repaired, kind_of
from fedmedlora.audit.log_file import AuditLog, RunLog, lines_of, verify_file

H = "ab" * 32
ONE = Fault("failed", "", "", "", "ValueError")


def kinds(path: Path) -> list[str]:
    return [kind_of(read_line(line).entry) for line in lines_of(path)]


@pytest.fixture
def log(tmp_path) -> AuditLog:
    return AuditLog(tmp_path / "state" / "audit.jsonl")


def test_entries_are_added_one_behind_the_other(log):
    assert log.head() is None
    first = log.append(ONE)
    assert (first.num_entries, log.head()) == (2, first)
    last = log.append(ONE, Repaired(1, H))
    assert last.num_entries == 4
    assert kinds(log.path) == ["log", "fault", "fault", "repaired"]
    found = verify_file(log.path, first)
    assert (found.problems, found.head, found.known_at) == ((), last, 2)
    assert log.path.stat().st_mode & 0o077 == 0
    assert log.append() == last  # nothing to add
    assert log.head() == last


def test_two_logs_are_not_the_same(tmp_path):
    heads = {AuditLog(tmp_path / name).append(ONE).hash for name in ("a", "b")}
    assert len(heads) == 2


def test_only_the_end_is_read(log, monkeypatch):
    """However long the log is: 200 entries of 300 bytes are about the 64 KiB that are read at once."""
    log.append(*[ONE] * 600)
    read = []
    really = os.pread
    monkeypatch.setattr(os, "pread", lambda *args: read.append(args[1]) or really(*args))
    log.append(ONE)
    assert sum(read) <= 1 << 16 < log.path.stat().st_size
    assert not verify_file(log.path).problems


def test_a_last_line_of_any_length_is_found(log, every_kind):
    """Lines around the size of what is read at once."""
    settings = every_kind[3]
    for num_keys in (1000, 1500, 1700, 4900):
        log.append(type(settings)("study", H, {f"key.{n:04d}": "x" * 24 for n in range(num_keys)}))
        log.append(ONE)
    log.append(type(settings)("study", H, {f"key.{n:04d}": "x" * 24 for n in range(4900)}))
    log.append(ONE)
    assert not verify_file(log.path).problems
    assert log.head().num_entries == 11


def test_an_unfinished_line_is_cut_off_and_that_is_told(log, tmp_path):
    """The last of three entries, after each of its bytes but the last."""
    log.append(ONE)
    kept = log.path.read_bytes()
    log.append(Repaired(5, H))
    whole = log.path.read_bytes()
    for size in range(len(kept) + 1, len(whole), 11):
        torn = AuditLog(tmp_path / f"{size}.jsonl")
        torn.path.write_bytes(whole[:size])
        ((problem),) = verify_file(torn.path).problems
        assert (problem.line, problem.what[:10]) == (3, "unfinished")
        torn.append(ONE)
        assert not verify_file(torn.path).problems
        assert kinds(torn.path) == ["log", "fault", "repaired", "fault"]
        (_, _, repaired, _) = map(read_line, lines_of(torn.path))
        assert repaired.entry.num_bytes == size - len(kept)
        assert torn.path.read_bytes().startswith(kept)


def test_of_a_log_whose_first_line_is_unfinished_nothing_is_left(log):
    log.append(ONE)
    data = log.path.read_bytes()
    log.path.write_bytes(data[:100])
    log.append(ONE)
    assert kinds(log.path) == ["log", "repaired", "fault"]
    log.path.write_bytes(b"")
    log.append(ONE)
    assert kinds(log.path) == ["log", "fault"]


def test_what_a_power_cut_leaves_is_an_unfinished_line(log):
    log.append(ONE)
    data = log.path.read_bytes()
    for left in (b"\0" * 50, b'{"body":{"er' + b"\0" * 9, b'{"bo'):
        log.path.write_bytes(data + left)
        log.append(ONE)
        assert kinds(log.path) == ["log", "fault", "repaired", "fault"]


@pytest.mark.parametrize("change", ["another file", "changed", "behind", "no line ends"])
def test_nothing_is_added_to_a_log_that_was_changed(log, change):
    log.append(ONE, ONE)
    data = log.path.read_bytes()
    changed = {
        "another file": b"dear diary\n",
        "changed": data.replace(b"ValueError", b"ValueErro_"),
        "behind": data + b"and more",
        "no line ends": b'{"body":' * 400_000,
    }[change]
    log.path.write_bytes(changed)
    with pytest.raises(ValueError, match=r"its end is not as it was written .* `fedmedlora audit verify"):
        log.append(ONE)
    with pytest.raises(ValueError, match="its end is not as it was written"):
        log.head()
    assert log.path.read_bytes() == changed


@contextmanager
def at_most(num_bytes: int):
    """Files of this process end there: the system writes what fits, and refuses the next write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1, 100, 400])
def test_a_full_disk_takes_nothing_and_leaves_the_log_whole(log, room):
    """Two entries of 256 bytes and more: room for none of a byte, for some, for one and a part."""
    head = log.append(ONE)
    data = log.path.read_bytes()
    with at_most(len(data) + room), pytest.raises(OSError, match=r"audit\.jsonl") as caught:
        log.append(ONE, ONE)
    assert caught.value.errno == errno.EFBIG
    assert log.path.read_bytes() == data
    assert log.append(ONE).num_entries == head.num_entries + 1
    assert kinds(log.path) == ["log", "fault", "fault"]


def test_a_disk_that_does_not_keep_it_adds_nothing(log, monkeypatch):
    log.append(ONE)
    data = log.path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*audit\.jsonl"):
        log.append(ONE)
    assert log.path.read_bytes() == data


WRITER = """
import sys
from pathlib import Path
from fedmedlora.audit.entries import Fault
from fedmedlora.audit.log_file import AuditLog

path, name, times = sys.argv[1:]
print("ready", flush=True)
for _ in range(int(times)):
    AuditLog(Path(path)).append(Fault("failed", "", "", "", name))
"""


def writer(path: Path, name: str, times: int) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(path), name, str(times)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_several_processes_write_one_after_the_other_and_one_is_killed(log):
    path = log.path
    running = [writer(path, "First", 40), writer(path, "Second", 40)]
    victim = writer(path, "Victim", 1_000_000)
    victim.stdout.readline()
    deadline = time.monotonic() + 30
    while not path.exists() or b"Victim" not in path.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    for one in (victim, *running):
        one.communicate(timeout=60)
    assert [one.returncode for one in running] == [0, 0]
    log.append(ONE)
    assert not verify_file(path).problems
    errors = [getattr(read_line(line).entry, "error", "") for line in lines_of(path)]
    assert (errors.count("First"), errors.count("Second")) == (40, 40)
    assert errors.count("Victim") >= 1


def test_the_log_of_a_run_begins_before_the_run_has_its_folder(tmp_path, monkeypatch):
    seconds = iter(range(60))
    monkeypatch.setattr(log_file, "utc_now", lambda: f"2026-11-30T08:00:{next(seconds):02d}Z")
    before, own = tmp_path / "state" / "audit.jsonl", tmp_path / "run" / "audit.jsonl"
    log = RunLog(before)
    assert log.path is None
    assert log.append(ONE).num_entries == 2
    assert kinds(before) == ["log", "fault"]
    log.open(own)
    log.append(Repaired(1, H))
    assert (log.path, kinds(own), kinds(before)) == (own, ["log", "fault", "repaired"], ["log", "fault"])
    silent = RunLog()
    assert silent.append(ONE) is None
    silent.open(tmp_path / "other.jsonl")
    assert kinds(tmp_path / "other.jsonl") == ["log", "fault"]
    own_times, times = ([read_line(line).time for line in lines_of(path)] for path in (own, before))
    assert own_times[1] == times[1], "when it happened, not when it was copied"
    again = RunLog()
    again.open(own)
    assert again.append(ONE).num_entries == 4
