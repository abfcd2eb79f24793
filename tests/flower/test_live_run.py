"""``live.json`` of a whole run with a site that fails, through the real ServerApp and the real ClientApp."""

from __future__ import annotations

import itertools
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Context, Error, Message, RecordDict

from fedmedlora.flower import asking, grid_sites, live, server_app
from fedmedlora.flower.live import live_in
from fedmedlora.flower.live_grid import size
from fedmedlora.flower.messages import DESCRIBE
from fedmedlora.flower.state import Submission, write_submission
from fedmedlora.live_record import LiveRecord, read_live, write_live
from fedmedlora.watch.reading import find, read_status

BOTH = ("lakeside", "stonebridge")
STONEBRIDGE = 2  # its node


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(live, "PAUSE_S", 0.0)


@pytest.fixture
def told(monkeypatch) -> list[LiveRecord]:
    """Every record that was written."""
    kept: list[LiveRecord] = []

    def write(folder: Path, record: LiveRecord) -> None:
        write_live(folder, record)
        kept.append(read_live(folder))

    monkeypatch.setattr(live, "write_live", write)
    return kept


@pytest.fixture
def submitted(three_sites, tmp_path, monkeypatch):
    """``submitted(resume)``: a study of two rounds that needs two of its sites, put before the ServerApp."""
    monkeypatch.setattr(grid_sites, "WORK_S", 3.0)
    monkeypatch.setattr(asking, "POLL_S", 0.02)
    monkeypatch.setattr(asking, "PRESENCE_S", 0.0)
    monkeypatch.setattr(server_app, "keep_freed_memory", lambda: None)
    monkeypatch.setenv("FEDMEDLORA_STATE", str(tmp_path / "state"))
    text = (three_sites / "study.toml").read_text()
    settings = {"max_sentences": "1\nevery_round = false", "bootstrap": 0, "steps_per_round": 1,
                "held_out_sentences": 2, "max_tokens": '4000\nnames = ["ner"]'}  # fmt: skip
    for key, little in settings.items():
        text = re.sub(rf"^{key} = .*", f"{key} = {little}", text, flags=re.M)
    text = text.replace("[validation]", "[rounds]\nquorum = 0.5\nattempts = 1\n[validation]")
    northgate = re.search(r'\[\[sites\]\]\nname = "northgate"\n.*\n.*\n', text).group()
    path = three_sites / "watched.toml"
    path.write_text(text.replace(northgate, ""))
    mask = os.umask(0o022)

    def submit(resume: bool = False) -> Path:
        found = Submission("watched", path, tmp_path / "out", resume, 0.3, ("run",))
        return write_submission(tmp_path / "state", found)

    yield submit
    os.umask(mask)


@pytest.fixture
def two_sites(three_sites, grid_over, one_thread):
    """A grid with lakeside, and stonebridge that keeps no test notes."""
    quiet = three_sites / "untested.toml"
    text = (three_sites / "stonebridge.toml").read_text()
    quiet.write_text(text.replace('test = "stonebridge-test.jsonl"\n', ""))
    return grid_over([three_sites / "lakeside.toml", quiet])


def run_app(grid) -> None:
    server_app.main(grid, Context(1, 0, {}, RecordDict(), {"study": "watched"}))


def failing_once(grid):
    """stonebridge's first update becomes Flower's error for a program that ended."""
    failed = []

    def fault(replies):
        found = []
        for question, reply in replies:
            is_update = reply.metadata.message_type == "train"
            if is_update and reply.metadata.src_node_id == STONEBRIDGE and not failed:
                failed.append(True)
                asked = next(m for m in grid.sent if m.metadata.message_id == question)
                reply = Message(Error(code=2, reason="killed"), reply_to=asked)
            found.append([question, reply])
        return found

    return fault


def test_a_run_with_an_absent_site(two_sites, submitted, told, tmp_path, marked):
    two_sites.fault = failing_once(two_sites)
    folder = submitted()
    run_app(two_sites)
    stages = [key for key, _ in itertools.groupby((r.stage, r.method, r.round_num) for r in told)]
    of_round = ["training", "aggregating", "validating", "aggregating"]
    assert stages == [
        ("waiting for sites", "", 0),
        *((stage, "fed_medlora_plus", 1) for stage in of_round),
        *((stage, "fed_medlora_plus", 2) for stage in of_round),
        ("reading tests", "fed_medlora_plus", 2),
        ("finished", "fed_medlora_plus", 2),
    ]
    in_first = [r for r in told if (r.stage, r.round_num) == ("training", 1)]
    states = [key for key, _ in itertools.groupby(r.sites[1].state for r in in_first)]
    assert states == ["idle", "asked", "absent"]
    assert in_first[-1].sites[1].reason == "its program failed or was lost, 1 times"
    assert [site.state for site in in_first[-1].sites] == ["answered", "absent"]
    assert all(site.is_connected for site in in_first[-1].sites)
    second = [r for r in told if (r.stage, r.round_num) == ("training", 2)]
    assert [site.state for site in second[-1].sites] == ["answered"] * 2
    assert told[0].sites[0].state == "not connected"
    assert told[0].sites[0].seen_utc == ""

    # What was sent is what the grid carried, and more than the adapters alone.
    last = told[-1]
    for node, site in enumerate(last.sites, start=1):
        sent = [m for m in two_sites.sent if m.metadata.dst_node_id == node]
        own = [m for m in sent if m.metadata.message_type != DESCRIBE]
        assert site.download_bytes == sum(size(m.content) for m in own)
        assert site.num_refusals == 0
    rounds = [json.loads(p.read_text()) for p in sorted((tmp_path / "out").rglob("round-*.json"))]
    trained = sum(s["upload_bytes"] for one in rounds for s in one["sites"] if s["site"] == "lakeside")
    assert last.sites[0].upload_bytes > trained
    assert last.sites[1].upload_bytes < last.sites[0].upload_bytes

    # Whoever watches sees the same.
    status = read_status(find(tmp_path / "state"))
    assert (status.stage, status.num_done, status.num_planned, status.is_alive) == ("finished", 2, 2, False)
    assert [(a.site, a.reason) for a in status.rounds[0].absent] == [
        ("stonebridge", "its program failed or was lost, 1 times")
    ]
    assert [site.num_absences for site in status.sites] == [0, 1]
    assert {one.cohort for one in status.scores} == {"lakeside"}
    assert marked not in (folder / "live.json").read_text()
    assert (folder / "live.json").stat().st_size < 5000


def test_a_run_that_stops_says_why_and_counts_on_when_it_goes_on(two_sites, submitted, told, three_sites):
    folder = submitted()
    path = three_sites / "strict.toml"
    path.write_text((three_sites / "lakeside.toml").read_text() + "max_rounds = 1\n")
    usual, two_sites.node_config[1] = two_sites.node_config[1], {"site": str(path)}
    with pytest.raises(ValueError, match="at most 1"):
        run_app(two_sites)
    assert told[-1].stage == "stopped"
    words = "a site will not do what the study asks: rounds 2: this site allows at most 1"
    assert told[-1].reason.startswith(words)
    status = read_status(find(folder))
    assert (status.stage, status.is_alive) == ("stopped", False)

    # Bytes and refusals of the same run are added to; those of a new one begin at nothing.
    before = replace(
        told[-1], sites=tuple(replace(s, upload_bytes=5, num_refusals=2) for s in told[-1].sites)
    )
    write_live(folder, before)
    two_sites.node_config[1] = usual
    submitted(resume=True)
    carried = live_in(folder, "x", BOTH, 2, resume=True)
    with carried:
        assert [(s.upload_bytes, s.num_refusals) for s in read_live(folder).sites] == [(5, 2)] * 2
    submitted(resume=False)
    assert read_live(folder) is None
    (folder / "live.json").write_text("{")
    with live_in(folder, "x", BOTH, 2, resume=True):  # what is damaged is no reason to stop
        assert [s.upload_bytes for s in read_live(folder).sites] == [0] * 2
