"""Going on until the end: what ends it, what does not, and when it gives up."""

from __future__ import annotations

import errno
import json
import threading

import pytest

from fedmedlora.flower.campaign import (
    Patience,
    as_here,
    carry_through,
    files_of,
    finished,
    is_whole,
    refuse_other_study,
    refuse_strangers,
)
from fedmedlora.flower.submit import Interrupted
from fedmedlora.study import parse_study
from fedmedlora.study_public import public_settings

SOON = Patience(waits_s=(0.0,), give_up_s=100.0)


class Runs:
    """Ends as ``ends`` say, one call after the other; ``far`` is how far it is after each."""

    def __init__(self, ends, far=(), seconds: float = 1.0) -> None:
        self.ends, self.far, self.told, self.time = list(ends), [0, *far], [], 0.0
        self.seconds = seconds

    def run(self):
        self.time += self.seconds
        self.far = self.far[1:] or self.far
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    def carry(self, patience=SOON, stopping=None):
        stopping = stopping or threading.Event()
        return carry_through(
            self.run, lambda: self.far[0], self.told.append, stopping, patience=patience,
            clock=lambda: self.time,
        )  # fmt: skip


def test_interrupted_it_goes_on():
    runs = Runs([Interrupted("SuperLink is gone"), Interrupted("killed"), {"results": 1}])
    assert runs.carry() == {"results": 1}
    assert [line.split(";")[0] for line in runs.told] == [
        "interrupted: SuperLink is gone",
        "interrupted: killed",
    ]


def test_what_going_on_would_not_change_ends_it():
    runs = Runs([ValueError("a site will not do what the study asks"), {"results": 1}])
    with pytest.raises(ValueError, match="will not do"):
        runs.carry()
    assert len(runs.ends) == 1


def test_a_full_disk_is_waited_out():
    full = OSError(errno.ENOSPC, "No space left on device", "state/submission.json")
    runs = Runs([full, full, {"results": 1}])
    assert runs.carry() == {"results": 1}
    assert {line.split(";")[0] for line in runs.told} == {
        "interrupted: state/submission.json: No space left on device"
    }


def test_a_full_disk_is_not_waited_out_for_ever():
    runs = Runs([OSError(errno.ENOSPC, "full")] * 200)
    with pytest.raises(ValueError, match=r"^full\nNothing got further"):
        runs.carry()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES])
def test_a_path_that_is_wrong_is_for_a_person(number):
    runs = Runs([OSError(number, "words", "study.toml"), {"results": 1}])
    with pytest.raises(OSError, match="words"):
        runs.carry()


def test_a_study_that_is_done_is_not_run_again_for_want_of_room_for_its_results():
    runs, room, written = Runs([Interrupted("killed"), {"results": 1}]), [], []

    def finish(results) -> None:
        if len(room) < 2:
            room.append(True)
            raise OSError(errno.ENOSPC, "full", "results.json")
        written.append(results)

    runs.run = finished(runs.run, finish)
    assert runs.carry() == {"results": 1}
    assert written == [{"results": 1}]
    assert [line.split(";")[0] for line in runs.told] == [
        "interrupted: killed",
        *["interrupted: results.json: full"] * 2,
    ]


def test_it_gives_up_when_nothing_gets_further():
    """30 s each: further after the second call, so the wait of 100 s begins there and ends with the sixth."""
    runs = Runs([Interrupted("no")] * 20, far=[1, 2, 2, 2, 2, 2, 2, 2, 2], seconds=30.0)
    with pytest.raises(ValueError, match=r"no\nNothing got further for 0.0278 hours") as caught:
        runs.carry()
    assert not isinstance(caught.value, Interrupted)
    assert len(runs.ends) == 20 - 6


def test_rounds_that_are_put_aside_are_no_standstill():
    """They are fewer files than before, and then computed again."""
    runs = Runs([Interrupted("no")] * 6 + [{}], far=[50, 2, 3, 4, 5, 6, 7, 8], seconds=30.0)
    assert runs.carry() == {}


def test_told_to_stop():
    stopping = threading.Event()
    runs = Runs([Interrupted("no"), {"results": 1}])
    runs.told = type("Told", (list,), {"append": lambda self, line: stopping.set()})()
    assert runs.carry(stopping=stopping) is None
    assert len(runs.ends) == 1


def test_waits_grow_and_begin_anew_when_it_got_further():
    waits = []

    class Event(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)

    runs = Runs([Interrupted("x")] * 5 + [{}], far=[0, 0, 0, 1, 1, 1])
    runs.carry(Patience(waits_s=(1.0, 5.0)), Event())
    assert waits == [1.0, 5.0, 5.0, 1.0, 5.0]


def test_how_far_a_run_is(tmp_path):
    assert files_of(tmp_path / "not there") == 0
    (tmp_path / "methods" / "fed_medlora").mkdir(parents=True)
    (tmp_path / "methods" / "fed_medlora" / "round-001.json").write_text("{}")
    (tmp_path / "methods" / "fed_medlora" / "round-001.safetensors").write_text("")
    assert files_of(tmp_path) == 1


def test_a_study_is_whole_when_every_site_has_read_its_test_notes(tmp_path):
    assert not is_whole(tmp_path)
    left = {"cohort": "stonebridge", "decoding": "constrained", "reason": "not connected"}
    for not_read, whole in (([left], False), ([], True)):
        methods = [{"name": "zero_shot", "not_read": []}, {"name": "fed_medlora", "not_read": not_read}]
        (tmp_path / "results.json").write_text(json.dumps({"methods": methods}))
        assert is_whole(tmp_path) is whole
    (tmp_path / "results.json").write_text(json.dumps({"methods": [{"name": "of an older version"}]}))
    assert is_whole(tmp_path)


def test_a_site_that_nobody_has_a_key_of_is_not_waited_for(two_hospitals):
    study = parse_study(two_hospitals(rounds=2), sites_are_here=False)[0]
    refuse_strangers(study, {"lakeside": b"", "northgate": b"", "westfield": b""}, "sites/")
    for keys, words in (
        (
            ("lakeside", "northgat"),
            "sites/: there is no key of northgate, only of lakeside, northgat; did you",
        ),
        ((), "there is no key of lakeside, northgate, only of nobody"),
    ):
        with pytest.raises(ValueError, match=words):
            refuse_strangers(study, keys, "sites/")


def test_the_finished_run_of_another_study_is_not_taken_for_this_one(two_hospitals, tmp_path):
    one, other = (parse_study(two_hospitals(rounds=n), sites_are_here=False)[0] for n in (2, 3))
    refuse_other_study(one, tmp_path)
    record = {"study_hash": one.study_hash(), "settings": public_settings(one)}
    (tmp_path / "run.json").write_text(json.dumps(record))
    refuse_other_study(one, tmp_path)
    with pytest.raises(
        ValueError, match=r"another study \(it differs in training.rounds\); name another folder"
    ):
        refuse_other_study(other, tmp_path)


def test_advice_to_those_who_call_run_is_left_out():
    assert as_here("stopping run 3; go on with --resume") == "stopping run 3"
    assert as_here("start it, and go on with --resume; it goes on in 2 s") == "start it; it goes on in 2 s"
