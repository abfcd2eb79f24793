"""Sites that are connected and do not say what they hold: one of them neither blocks a study nor ends it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.experiment import run_study
from fedmedlora.flower import asking, roll
from fedmedlora.flower.grid_sites import join
from fedmedlora.flower.messages import DESCRIBE, Letter
from fedmedlora.model.load import load_base_model
from fedmedlora.prepare import terms_of
from fedmedlora.progress import Silent
from fedmedlora.sites import NotNow
from fedmedlora.study import load_study
from fedmedlora.study_rounds import Rounds

SITES = ("lakeside", "northgate", "stonebridge")
NORTHGATE, STONEBRIDGE = 2, 3  # their nodes
MOST = Rounds(quorum=0.6)  # two of three

pytestmark = pytest.mark.usefixtures("soon_given_up")


@pytest.fixture(scope="module")
def terms(three_sites, one_thread):
    study = load_study(three_sites / "study.toml")
    return terms_of(study, load_base_model(study.model_name(), precision="float32"))


@pytest.fixture
def grid(local_grid):
    """The three sites, each with a registered key."""
    local_grid.registered = dict(enumerate(SITES, start=1))
    return local_grid


@pytest.fixture
def joined(grid, terms, tmp_path):
    """``joined(rounds)``: the sites as a run that begins, or goes on, finds them."""

    def now(rounds: Rounds = MOST, wait_s: float = 300.0):
        remembered = tmp_path / "sites.json"
        return join(grid, SITES, terms, Silent(), wait_s=wait_s, rounds=rounds, remembered=remembered)

    return now


def fails(grid, folder, node: int = STONEBRIDGE) -> str:
    """Its notes are gone."""
    text = (folder / f"{SITES[node - 1]}.toml").read_text()
    path = folder / "without-notes.toml"
    path.write_text(text.replace(f'"{SITES[node - 1]}-train.jsonl"', '"gone.jsonl"'))
    grid.node_config[node] = {"site": str(path)}
    return "it failed with ValueError; its own log says where and why, 3 times"


def refuses(grid, folder) -> str:
    path = folder / "too-strict.toml"
    path.write_text((folder / "stonebridge.toml").read_text() + "max_rounds = 1\n")
    grid.node_config[STONEBRIDGE] = {"site": str(path)}
    return "will not do what the study asks: rounds 2: this site allows at most 1 (max_rounds)"


def describes_itself_wrong(grid, folder) -> str:
    def spoil(replies):
        for _, reply in replies:
            meta = reply.metadata
            if meta.message_type == DESCRIBE and meta.src_node_id == STONEBRIDGE:
                fields = dict(Letter.from_records(reply.content).fields)
                reply.content = Letter({**fields, "name": "../x"}).to_records()
        return replies

    grid.fault = spoil
    return "its description cannot be used: site name '../x' is not allowed"


FAULTS = [fails, refuses, describes_itself_wrong]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_that_goes_on_does_without_such_a_site(joined, grid, three_sites, fault, caplog):
    assert joined().roll.missing() == []
    config = dict(grid.node_config)
    why = fault(grid, three_sites)
    began = time.monotonic()
    sites = joined()
    assert time.monotonic() - began < 300.0  # it is not waited for
    assert sites.roll.missing() == ["stonebridge"]
    absent = sites.roll.absent("stonebridge")
    assert (absent.site, absent.reason[: len(why)]) == ("stonebridge", why)
    assert absent.is_final == (fault is refuses)
    sites._look_again()
    told = [line for line in caplog.messages if line.startswith("stonebridge is not there: ")]
    assert told == [f"stonebridge is not there: {absent.reason}"]  # once, though it was asked twice
    # Mended, it is there in the next round.
    grid.node_config, grid.fault = config, lambda replies: replies
    sites._look_again()
    assert sites.roll.missing() == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_study_does_not_begin_without_it_and_says_whom_it_needs(joined, grid, three_sites, fault):
    why = fault(grid, three_sites)
    with pytest.raises(ValueError, match=r"^site stonebridge") as caught:
        joined()
    assert why in str(caught.value)
    # Only where a site refuses, would going on later be the same.
    assert isinstance(caught.value, NotNow) == (fault is not refuses)


@pytest.mark.parametrize("fault", FAULTS)
def test_nor_does_it_go_on_without_its_quorum(joined, grid, three_sites, fault):
    joined()
    why = fault(grid, three_sites)
    with pytest.raises(ValueError, match=r"^site stonebridge") as caught:
        joined(Rounds())
    assert why in str(caught.value)
    assert isinstance(caught.value, NotNow) == (fault is not refuses)


def test_a_refusal_ends_no_study_that_another_site_may_come_back_to(joined, grid, three_sites):
    """Two of three are needed; one refuses, and another fails, which may be mended."""
    joined()
    refuses(grid, three_sites)
    why = fails(grid, three_sites, NORTHGATE)
    with pytest.raises(NotNow, match=r"^site northgate did not answer") as caught:
        joined()
    assert why in str(caught.value)


def test_a_site_that_says_nothing_keeps_a_run_waiting_once(joined, grid, monkeypatch):
    joined()
    grid.fault = lambda replies: [r for r in replies if r[1].metadata.src_node_id != STONEBRIDGE]
    monkeypatch.setattr(roll, "DESCRIBE_S", 0.3)
    monkeypatch.setattr(roll, "NOT_LONG", replace(roll.NOT_LONG, deadline_s=0.3))
    sites = joined()
    assert sites.roll.absent("stonebridge").reason.startswith("no answer after")
    num_asked = len(grid.sent)
    sites._look_again()
    assert len(grid.sent) == num_asked
    grid.fault = lambda replies: replies
    grid.connected_at[STONEBRIDGE] = "a moment later"
    sites._look_again()
    assert sites.roll.missing() == []


def test_its_absence_and_why_stand_in_the_results(grid, three_sites, tmp_path):
    """Stopped after the first round; when the run goes on, the site's notes are gone."""
    text = (three_sites / "study.toml").read_text().replace('"fed_medlora_plus"', '"fed_medlora"')
    path = three_sites / "without-one.toml"
    head, tail = text.split("[rules")[0], text[text.index("[[sites]]") :]
    evaluation = "[evaluation]\nmax_sentences = 1\nbootstrap = 0\n"
    path.write_text(f"{head}[rounds]\nquorum = 0.6\n{evaluation}{tail}")
    study = load_study(path, sites_are_here=False)

    def run(**more):
        def elsewhere(terms, progress):
            remembered = tmp_path / "sites.json"
            return join(grid, SITES, terms, progress, wait_s=60.0, rounds=study.rounds, remembered=remembered)

        return run_study(study, tmp_path / "out", elsewhere=elsewhere, **more)

    def stop(replies):
        if any(m.metadata.group_id == "2" for m in grid.sent):
            raise KeyboardInterrupt
        return replies

    grid.fault = stop
    with pytest.raises(KeyboardInterrupt):
        run()
    grid.waiting.clear()
    grid.fault = lambda replies: replies
    why = fails(grid, three_sites)
    (method,) = run(resume=True)["methods"]
    assert [one["absent"] for one in method["rounds"]] == [[], [{"site": "stonebridge", "reason": why}]]
    assert [(one["cohort"], one["reason"]) for one in method["not_read"]] == [("stonebridge", why)]


def test_the_limits_are_of_one_length():
    """A site that says nothing is given up before its silence is an error of the whole question."""
    assert roll.NOT_LONG.deadline_s == roll.DESCRIBE_S
    assert asking.POLL_S < roll.AGAIN_S < roll.DESCRIBE_S
