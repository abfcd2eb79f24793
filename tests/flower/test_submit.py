"""Following a run: how often SuperLink is asked, before, while and after the ServerApp is at work."""

from __future__ import annotations

import errno
import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedmedlora.flower import submit
from fedmedlora.flower.state import write_outcome
from fedmedlora.only_one import is_held, only_one
from fedmedlora.run_folder import alone_in

TARGET = submit.Target("nobody", {})


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "state").mkdir()
    return tmp_path


@pytest.mark.parametrize("at_work", [True, False])
def test_asked_only_where_nobody_is_at_work(folder, monkeypatch, at_work):
    monkeypatch.setattr(submit, "ASK_S", 0.05)
    monkeypatch.setattr(submit, "POLL_S", 0.02)
    asked = []

    def status(run_id, target):
        asked.append(run_id)
        return "running"

    monkeypatch.setattr(submit, "_status", status)
    with alone_in(folder / "run") if at_work else nullcontext():
        done = threading.Timer(1.0, write_outcome, [folder / "state"], {"results": {"done": 1}, "error": ""})
        done.start()
        outcome = submit._follow(folder / "state", folder / "run", "7", TARGET, [].append, threading.Event())
        done.join()
    assert outcome["results"] == {"done": 1}
    assert asked == [] if at_work else len(asked) > 2


@pytest.mark.parametrize(
    ("until", "then"),
    [(130.0, [112.0, 130.0, 150.5, 191.0]), (115.0, [112.0, 122.5, 143.0, 183.5])],
    ids=["long after an asking", "soon after one"],
)
def test_asked_less_and_less_until_it_is_at_work_and_soon_when_it_no_longer_is(
    folder, monkeypatch, until, then
):
    now, asked = 0.0, []

    class Clock(threading.Event):
        def wait(self, timeout):
            nonlocal now
            now += timeout
            if now >= 200.0:
                write_outcome(folder / "state", results={}, error="")
            return False

    monkeypatch.setattr(submit, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(submit, "is_worked_on", lambda out: 100.0 <= now < until)
    monkeypatch.setattr(submit, "_status", lambda run_id, target: asked.append(now) or "running")
    submit._follow(folder / "state", folder / "run", "7", TARGET, [].append, Clock())
    assert asked == [10.5, 31.0, 71.5, *then]


def test_a_server_app_that_stands_still_is_noticed_too(folder, monkeypatch):
    """It holds its lock, and SuperLink knows that the run has ended."""
    for name, value in (("ASK_S", 0.05), ("SELDOM_ASK_S", 0.3), ("POLL_S", 0.02), ("ENDED_GRACE_S", 0.0)):
        monkeypatch.setattr(submit, name, value)
    monkeypatch.setattr(submit, "_status", lambda run_id, target: "finished:failed")
    late = threading.Timer(20.0, write_outcome, [folder / "state"], {"results": {}, "error": ""})
    late.daemon = True
    late.start()
    with alone_in(folder / "run"), pytest.raises(submit.Interrupted, match="left no outcome"):
        submit._follow(folder / "state", folder / "run", "7", TARGET, [].append, threading.Event())
    late.cancel()


def test_whether_a_lock_is_held(tmp_path):
    path = tmp_path / "lock"
    assert not is_held(path)
    assert not path.exists()
    with only_one(path, "no"):
        assert is_held(path)
    assert path.exists()
    assert not is_held(path)


def test_a_run_that_could_not_be_followed_is_stopped(folder, monkeypatch):
    """Else the next call would begin a second one beside it."""
    did = []

    def full(place, run_id):
        raise OSError(errno.ENOSPC, "No space left on device", str(place))

    monkeypatch.setattr(submit, "load_study", lambda *args, **kwargs: SimpleNamespace(sites=()))
    monkeypatch.setattr(submit, "submission_name", lambda *args: "a" * 16)
    monkeypatch.setattr(submit, "write_submission", lambda *args: did.append("written"))
    monkeypatch.setattr(submit, "_start", lambda *args: "7")
    monkeypatch.setattr(submit, "_stop", lambda run_id, *args: did.append(f"{run_id} stopped"))
    monkeypatch.setattr(submit, "write_run", full)
    target = submit.Target("nobody", {submit.STATE: str(folder / "state")})
    with pytest.raises(OSError, match="No space left"):
        submit.run_at(folder / "study.toml", folder / "run", target, True, 1.0, (), did.append)
    assert did == ["written", "7 stopped"]
