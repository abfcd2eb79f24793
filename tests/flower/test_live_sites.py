"""What sites and their coordinator are at, told."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from told_live import SITES, made, state_of

from fedmedlora.flower import live
from fedmedlora.flower.live_sites import LiveProgress, LiveSites
from fedmedlora.live_record import LiveRecord
from fedmedlora.progress import Silent
from fedmedlora.rounds import Absent
from fedmedlora.sites import Errand


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(live, "PAUSE_S", 0.0)


class TwoAnswers:
    """Sites of which one answers and one does not."""

    def train(self, *arguments):
        yield Absent("stonebridge", "not connected")
        yield "an update"

    def losses(self, names, adapters, errand):
        return {}

    def read(self, *arguments):
        yield "lakeside", "an evaluation"
        yield "northgate", Absent("northgate", "gone")


def test_sites_tell_the_stages():
    kept: list[LiveRecord] = []
    with made(kept) as told:
        sites = LiveSites(TwoAnswers(), told)
        errand = Errand("fed_medlora")
        assert len(list(sites.train(SITES, 2, None, errand))) == 2
        assert state_of(kept) == ("not connected", "not connected", False)
        assert (kept[-1].stage, kept[-1].round_num) == ("aggregating", 2)
        assert sites.losses(SITES, {}, errand) == {}
        assert "validating" in [one.stage for one in kept]
        read = list(sites.read(SITES, None, "constrained", Errand("zero_shot"), ""))
        assert read == [("lakeside", "an evaluation"), ("northgate", Absent("northgate", "gone"))]
        assert state_of(kept, "northgate")[1] == "gone"
        assert (kept[-1].stage, kept[-1].method, kept[-1].round_num) == ("reading tests", "zero_shot", 0)


@pytest.mark.parametrize(
    ("label", "stages"),
    [
        ("validation loss", ["validating", "aggregating"]),
        ("validation losses of the sites' adapters", ["validating", "aggregating"]),
        ("Zero-shot: reads saltmarsh", ["reading tests"]),
        ("something else", []),
    ],
)
def test_the_coordinators_own_work_is_told(label, stages):
    kept: list[LiveRecord] = []
    with made(kept) as told, LiveProgress(Silent(), told).stage(label, 1.0) as advance:
        advance(1, 2)
        assert kept[-1].doing == label
    assert kept[-1].doing == ""
    passed = [key for key, _ in itertools.groupby(one.stage for one in kept)]
    assert passed == ["waiting for sites", *stages, "finished"]


def test_the_labels_are_those_of_the_coordinator():
    """``LiveProgress`` knows its work by these words."""
    source = Path(live.__file__).parents[1]
    texts = [(source / name).read_text() for name in ("train_method.py", "signals.py", "cohort.py")]
    for words in ('stage("validation loss"', "in the validation notes", "}: reads {"):
        assert any(words in text for text in texts), words
