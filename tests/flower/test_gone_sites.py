"""A site that is gone when adapters are scored or read: with a quorum the run ends without it."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest

from fedmedlora import experiment
from fedmedlora.corpora.jsonl import read_notes, write_notes
from fedmedlora.experiment import run_study
from fedmedlora.flower.grid_sites import join
from fedmedlora.flower.messages import Letter
from fedmedlora.report.page import page_text
from fedmedlora.report.results import validate
from fedmedlora.sites import NotNow
from fedmedlora.study import load_study

SITES = ("lakeside", "northgate", "stonebridge")
STONEBRIDGE = 3  # its node

pytestmark = pytest.mark.usefixtures("soon_given_up")


@pytest.fixture
def study_with(three_sites):
    """``study_with(quorum)``: Fed-MedLoRA+, validated by the sites."""

    def write(quorum: str, num_rounds: int = 1) -> Path:
        text = (three_sites / "study.toml").read_text().replace("rounds = 2", f"rounds = {num_rounds}")
        path = three_sites / f"gone-{quorum}-{num_rounds}.toml"
        path.write_text(text.replace("[evaluation]", f"[rounds]\nquorum = {quorum}\n[evaluation]"))
        return path

    return write


def run_over(grid, path: Path, out: Path, **more):
    study = load_study(path, sites_are_here=False)
    return run_study(
        study,
        out,
        elsewhere=lambda terms, progress: join(grid, SITES, terms, progress, wait_s=0.3, rounds=study.rounds),
        **more,
    )


def gone_when_asked(grid, kind: str):
    """stonebridge goes away with its first question of ``kind``."""

    def fault(replies):
        mine = [
            r
            for r in replies
            if r[1].metadata.message_type == kind and r[1].metadata.src_node_id == STONEBRIDGE
        ]
        if mine:
            grid.node_config.pop(STONEBRIDGE, None)
        return [reply for reply in replies if reply not in mine]

    return fault


def read_by(results) -> list[str]:
    return [one["cohort"] for one in results["methods"][0]["evaluations"]]


def test_gone_while_it_reads_its_test_notes(local_grid, study_with, tmp_path):
    config = dict(local_grid.node_config)
    local_grid.fault = gone_when_asked(local_grid, "evaluate.read")
    path = study_with("0.6")
    results = run_over(local_grid, path, tmp_path / "out")
    validate(results)
    assert read_by(results) == ["lakeside", "northgate"]
    [absent] = results["methods"][0]["not_read"]
    assert (absent["cohort"], absent["decoding"]) == ("stonebridge", "constrained")
    assert absent["reason"] == "not connected for 0 s"
    page = page_text(results)
    assert "not connected for 0 s" in page

    # It is back, and a run that goes on reads what is missing.
    local_grid.node_config |= config
    local_grid.fault = lambda replies: replies
    results = run_over(local_grid, path, tmp_path / "out", resume=True)
    assert read_by(results) == list(SITES)
    assert results["methods"][0]["not_read"] == []


def test_away_before_it_is_asked_to_read(local_grid, study_with, tmp_path):
    local_grid.fault = gone_when_asked(local_grid, "evaluate.losses")
    results = run_over(local_grid, study_with("0.6"), tmp_path / "out")
    assert read_by(results) == ["lakeside", "northgate"]
    assert [one["reason"] for one in results["methods"][0]["not_read"]] == ["not connected for 0 s"]


def test_gone_while_it_scores_the_others(local_grid, study_with, tmp_path, caplog):
    """Its own update stays in the round: it is weighed by what the other two say."""
    local_grid.fault = gone_when_asked(local_grid, "evaluate.losses")
    results = run_over(local_grid, study_with("0.6"), tmp_path / "out")
    [one] = results["methods"][0]["rounds"]
    assert one["absent"] == []
    assert set(one["weights"]) == set(SITES)
    assert all(math.isfinite(site["validation_loss"]) for site in one["sites"])
    assert "stonebridge scores nobody: " in caplog.text


@pytest.mark.parametrize("node", [STONEBRIDGE, 7])
def test_a_site_with_other_notes_than_it_said(local_grid, study_with, three_sites, tmp_path, node):
    """What it sends would be taken for the work of the notes that it said it had; wherever it is back."""
    other = tmp_path / "site"
    shutil.copytree(three_sites, other)
    path = other / "stonebridge-train.jsonl"
    found = read_notes(path)
    write_notes(path, found.notes[:-1], header=found.header)

    def swapped(replies):
        if any(r[1].metadata.message_type == "evaluate.losses" for r in replies):
            local_grid.node_config.pop(STONEBRIDGE, None)
            local_grid.node_config[node] = {"site": str(other / "stonebridge.toml")}
        return replies

    local_grid.fault = swapped
    results = run_over(local_grid, study_with("0.6", 2), tmp_path / "out")
    first, second = results["methods"][0]["rounds"]
    assert first["absent"] == []
    why = "has other notes than the run knows"
    assert second["absent"] == [{"site": "stonebridge", "reason": why}]
    assert [one["reason"] for one in results["methods"][0]["not_read"]] == [f"site stonebridge {why}"]


def test_a_run_that_was_stopped_ends_without_the_site_too(local_grid, study_with, tmp_path, monkeypatch):
    """Two of three have read when the process is killed: what they read counts as theirs afterwards."""
    path = study_with("0.6")
    local_grid.fault = gone_when_asked(local_grid, "evaluate.read")
    with monkeypatch.context() as patched:
        patched.setattr(experiment, "_results", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_over(local_grid, path, tmp_path / "out")
    local_grid.node_config[STONEBRIDGE] = {"site": str(path.with_name("stonebridge.toml"))}
    results = run_over(local_grid, path, tmp_path / "out", resume=True)
    assert read_by(results) == ["lakeside", "northgate"]
    assert [one["cohort"] for one in results["methods"][0]["not_read"]] == ["stonebridge"]


def test_scores_that_cannot_be_read_count_as_none(local_grid, study_with, tmp_path):
    def spoilt(replies):
        for _, reply in replies:
            meta = reply.metadata
            if meta.message_type == "evaluate.read" and meta.src_node_id == STONEBRIDGE:
                fields = dict(Letter.from_records(reply.content).fields)
                fields["evaluation"] = {**fields["evaluation"], "cohort": "lakeside"}
                reply.content = Letter(fields).to_records()
        return replies

    local_grid.fault = spoilt
    results = run_over(local_grid, study_with("0.6"), tmp_path / "out")
    assert read_by(results) == ["lakeside", "northgate"]
    [absent] = results["methods"][0]["not_read"]
    assert absent["reason"].startswith("site 'stonebridge': scores: of another cohort")


def test_nobody_is_left_to_score_the_one_that_is_there(local_grid, study_with, tmp_path):
    """One of three would be a quorum; but nobody scores itself, so two must be there."""

    def both_gone(replies):
        mine = [r for r in replies if r[1].metadata.message_type == "evaluate.losses"]
        mine = [r for r in mine if r[1].metadata.src_node_id != 1]
        if mine:
            local_grid.node_config = {1: local_grid.node_config[1]}
        return [reply for reply in replies if reply not in mine]

    local_grid.fault = both_gone
    with pytest.raises(NotNow, match="sites did not answer in 3 s"):
        run_over(local_grid, study_with("0.3"), tmp_path / "out")


@pytest.mark.parametrize("kind", ["evaluate.losses", "evaluate.read"])
def test_without_a_quorum_the_run_waits_for_it_and_stops(local_grid, study_with, tmp_path, kind):
    config = dict(local_grid.node_config)
    local_grid.fault = gone_when_asked(local_grid, kind)
    path = study_with("1.0")
    with pytest.raises(ValueError, match="1 sites did not answer in 3 s"):
        run_over(local_grid, path, tmp_path / "out")
    local_grid.node_config |= config
    local_grid.fault = lambda replies: replies
    results = run_over(local_grid, path, tmp_path / "out", resume=True)
    assert read_by(results) == list(SITES)
