"""Errors of the machine that are waited out, and those that a person has to do something about."""

from __future__ import annotations

import errno
import os

import pytest

from fedmedlora.flower import may_pass
from fedmedlora.flower.may_pass import in_words, waited_out
from fedmedlora.flower.supervise import Kept, Program

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "state/run.json")


def failing(*ends):
    """A function that raises ``ends`` one after the other, and then says that it is done."""
    left = list(ends)

    def do() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return do


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EIO", "ESTALE", "EAGAIN", "EMFILE", "ENOMEM"])
def test_what_may_pass_is_told_and_tried_again(name, monkeypatch):
    monkeypatch.setattr(may_pass, "AGAIN_S", 0.0)
    number, told = getattr(errno, name), []
    error = OSError(number, os.strerror(number), "state/run.json")
    assert waited_out(failing(error, error), told.append) == "done"
    assert told == [f"state/run.json: {os.strerror(number)}; it is tried again in 0 s"] * 2


@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "EPERM", "ENOTDIR", "EROFS"])
def test_what_is_for_a_person_is_raised(name):
    error = OSError(getattr(errno, name), "words")
    with pytest.raises(OSError, match="words") as caught:
        waited_out(failing(error), lambda line: None)
    assert caught.value is error


def test_errors_that_are_not_the_systems_are_raised():
    for error in (ValueError("a study file that is wrong"), OSError("no number")):
        with pytest.raises(type(error)):
            waited_out(failing(error), lambda line: None)


def test_words():
    assert in_words(FULL) == "state/run.json: No space left on device"
    assert in_words(OSError(errno.ENOSPC, "full")) == "full"
    assert in_words(ValueError("wrong")) == "wrong"


def test_a_program_whose_log_has_no_room_is_started_when_there_is(tmp_path, monkeypatch):
    now, told = [0.0], []
    program = Program("SuperLink", ("sleep", "60"), dict(os.environ), tmp_path / "log" / "p.log")
    kept = Kept(program, told.append, clock=lambda: now[0])
    with monkeypatch.context() as full:
        full.setattr(type(tmp_path), "mkdir", lambda *args, **more: failing(FULL)())
        kept.tick()
        kept.tick()  # not before its time
    assert told == ["SuperLink cannot be started: state/run.json: No space left on device; again in 1 s"]
    assert not kept.is_running
    now[0] = 1.0
    kept.tick()
    assert kept.is_running
    kept.stop()
