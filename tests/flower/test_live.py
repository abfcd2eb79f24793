"""What sites are told to be, and how often it is written."""

from __future__ import annotations

import threading

import pytest
from told_live import SITES, made, state_of

from fedmedlora.flower import live
from fedmedlora.flower.live import Live
from fedmedlora.live_record import LiveRecord


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(live, "PAUSE_S", 0.0)


def test_what_a_site_is_told_to_be():
    kept: list[LiveRecord] = []
    with made(kept) as told:
        assert state_of(kept) == ("not connected", "", False)
        told.joined("stonebridge")
        assert state_of(kept) == ("idle", "", True)
        told.begin_round("fed_medlora", 1, SITES)
        told.asked("stonebridge", 100)
        assert state_of(kept) == ("asked", "", True)
        told.absent("stonebridge", "no answer after 9 s")  # it was asked, and works on
        assert state_of(kept) == ("late", "no answer after 9 s", True)
        told.begin_round("fed_medlora", 2, SITES)  # waited for, not asked again
        assert state_of(kept) == ("late", "no answer after 9 s", True)
        told.begin_round("fed_medlora", 2, ("lakeside",))  # not even waited for
        assert state_of(kept) == ("idle", "", True)
        told.asked("stonebridge", 1)
        told.connected({"lakeside"})  # its connection is lost, its question is not
        assert state_of(kept) == ("asked", "", False)
        told.absent("stonebridge", "not connected for 60 s")
        assert state_of(kept) == ("not connected", "not connected for 60 s", False)
        told.answered("stonebridge", 7)
        assert state_of(kept) == ("answered", "", True)
        told.absent("stonebridge", "refused: array 'x' has another shape")
        assert state_of(kept) == ("refused", "refused: array 'x' has another shape", True)
        told.asked("stonebridge", 1)
        told.failed("stonebridge")
        told.absent("stonebridge", "its program failed or was lost, 3 times")
        assert state_of(kept) == ("absent", "its program failed or was lost, 3 times", True)
        told.asked("a stranger", 5)  # the study names it not
        told.absent("a stranger", "gone")
        assert [site.name for site in kept[-1].sites] == list(SITES)
    stonebridge = kept[-1].sites[2]
    assert (stonebridge.download_bytes, stonebridge.upload_bytes) == (102, 7)
    assert kept[-1].stage == "finished"


def test_a_sites_own_words_are_cut_and_printable():
    kept: list[LiveRecord] = []
    with made(kept) as told:
        told.answered("stonebridge", 1, "\x1b[31mno\n" + "x" * 9000)
        state, reason, _ = state_of(kept)
        assert state == "refused"
        assert reason.startswith(" [31mno xxx")
        assert len(reason) == 500
        assert reason.isprintable()
        assert kept[-1].sites[2].num_refusals == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("two sites are needed"), "two sites are needed"),
        (RuntimeError("words of a library, which may quote"), "RuntimeError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_how_it_ended(error, reason):
    kept: list[LiveRecord] = []

    def work() -> None:
        with made(kept):
            raise error

    with pytest.raises(type(error)):
        work()
    assert (kept[-1].stage, kept[-1].reason) == ("stopped", reason)
    assert "live.json" not in [thread.name for thread in threading.enumerate()]


def test_many_changes_are_few_writings(monkeypatch):
    monkeypatch.setattr(live, "PAUSE_S", 0.2)
    monkeypatch.setattr(live, "HEARTBEAT_S", 1000.0)
    kept: list[LiveRecord] = []
    with made(kept) as told:
        for number in range(1000):
            told.asked("lakeside", number)
        assert len(kept) <= 3  # far less than 0.4 s have gone by
        deadline = threading.Event()
        for _ in range(100):  # the last change is written, though nothing follows it
            if kept[-1].sites[0].download_bytes == 499_500:
                break
            deadline.wait(0.05)
        assert kept[-1].sites[0].download_bytes == 499_500  # 0 + 1 + ... + 999


def test_it_gives_a_sign_of_life(monkeypatch):
    monkeypatch.setattr(live, "PAUSE_S", 0.02)
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.04)
    kept: list[LiveRecord] = []
    with made(kept):
        waited = threading.Event()
        for _ in range(100):
            if len(kept) > 3:
                break
            waited.wait(0.05)
    assert len(kept) > 3


def test_a_full_disk_stops_nothing(caplog):
    def write(record: LiveRecord) -> None:
        raise OSError(28, "No space left on device")

    with Live("A study", SITES, 2, write) as told:
        told.joined("lakeside")
        told.stage("aggregating")
    assert caplog.text.count("not written") == 1
