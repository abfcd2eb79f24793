"""A state folder and a run folder in the middle of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from html_reader import HOSTILE
from made_up_watch import live_record, round_record, write_run, write_state

from fedmedlora.watch.status import Finished, Status, status_of

NOW = "2026-11-29T14:00:00Z"


@pytest.fixture
def state(tmp_path) -> Path:
    """The state folder; the run's is ``out`` beside it."""
    write_run(tmp_path / "out", {"fed_medlora": [round_record(1)]})
    return write_state(tmp_path / "state", tmp_path / "out", live_record())


@pytest.fixture
def hostile() -> Status:
    """A status whose every text came from somebody who means harm."""
    absent = [{"site": HOSTILE, "reason": f"will not do what the study asks: {HOSTILE}"}]
    record = round_record(1, absent=absent, weights={HOSTILE: 1.0})
    record["sites"][0]["site"] = HOSTILE
    live = live_record(study=HOSTILE, method=HOSTILE, doing=HOSTILE)
    live = replace(live, sites=tuple(replace(s, name=HOSTILE, reason=HOSTILE) for s in live.sites))
    rounds = {HOSTILE: [record]}
    evaluation = {"cohort": HOSTILE, "decoding": "free", "scores": {}}
    finished = Finished({}, rounds, {HOSTILE: [evaluation]})
    found = status_of(live, finished, NOW, "")
    # Past our own cutting, as if it were not there: what shows a text must not lean on it.
    sites = tuple(replace(s, name=HOSTILE, reason=HOSTILE) for s in found.sites)
    rounds = tuple(replace(one, method=HOSTILE, weights={HOSTILE: 1.0}) for one in found.rounds)
    return replace(found, study=HOSTILE, method=HOSTILE, doing=HOSTILE, sites=sites, rounds=rounds)
