"""The coordinator's state folder: a name from the network is looked up and is never a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora.flower.state import (
    Submission,
    read_outcome,
    read_run,
    read_submission,
    signer,
    simulated_site,
    state_folder,
    submission_name,
    write_outcome,
    write_run,
    write_submission,
)
from fedmedlora.study import load_study


@pytest.fixture
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FEDMEDLORA_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def submit(state: Path, study: Path, name: str = "a-study") -> Path:
    return write_submission(state, Submission(name, study, state.parent / "out", True, 5.0, ("run",)))


def test_there_and_back(state, three_sites):
    folder = submit(state, three_sites / "study.toml")
    assert folder == state / "a-study"
    assert folder.stat().st_mode & 0o077 == 0
    found, where = read_submission("a-study")
    assert where == folder
    assert found.study == (three_sites / "study.toml").resolve()
    assert (found.resume, found.wait_s, found.command) == (True, 5.0, ("run",))
    assert read_outcome(folder) is None
    write_outcome(folder, results={"a": 1})
    assert read_outcome(folder) == {"results": {"a": 1}, "error": "", "may_go_on": False}
    assert read_run(folder) == ""
    write_run(folder, "17")
    assert read_run(folder) == "17"
    submit(state, three_sites / "study.toml")  # again: the old outcome is gone, the run's id is known
    assert read_outcome(folder) is None
    assert read_run(folder) == "17"


@pytest.mark.parametrize(
    "name", ["", "..", "../a-study", "a/b", "/" + "srv", "A", "-a", "a" * 81, "a\n", "é"]
)
def test_a_name_is_no_path(state, three_sites, name):
    submit(state, three_sites / "study.toml")
    with pytest.raises(ValueError, match="names no study that was submitted here"):
        read_submission(name)


def test_an_unknown_name(state):
    with pytest.raises(ValueError, match="no study 'other' was submitted on this machine"):
        read_submission("other")


def test_without_the_environment(monkeypatch):
    monkeypatch.delenv("FEDMEDLORA_STATE", raising=False)
    with pytest.raises(ValueError, match="FEDMEDLORA_STATE is not set"):
        state_folder()


def test_the_key_is_of_the_state_folder_and_a_simulation_has_none(state, monkeypatch):
    monkeypatch.delenv("FEDMEDLORA_SIGNS", raising=False)
    assert signer().public == signer().public
    assert (state / "passport-key.pem").stat().st_mode & 0o077 == 0
    monkeypatch.setenv("FEDMEDLORA_SIGNS", "no")
    assert signer() is None


def test_a_name_stands_for_study_and_folder(three_sites, tmp_path):
    study = load_study(three_sites / "study.toml")
    name = submission_name(study, tmp_path / "out")
    assert name.startswith("three-sites-")
    assert name == submission_name(study, tmp_path / "x" / ".." / "out")
    assert name != submission_name(study, tmp_path / "other")


def test_a_simulated_site_is_one_of_the_study(state, three_sites):
    submit(state, three_sites / "study.toml")
    found = simulated_site("a-study", 1)
    assert found.name == "northgate"
    assert found.path(found.train) == three_sites / "northgate-train.jsonl"
    assert found.allows.validates_others
    assert Path(found.state).is_absolute()
    for index in (-1, 3):
        with pytest.raises(ValueError, match="the study has 3 sites"):
            simulated_site("a-study", index)
