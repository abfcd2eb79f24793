"""A round that is damaged on the disk: the run goes on after the last whole one, to the same end."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from interrupting import Interrupting
from tiny_study import NEW_SITE, make_study, without_time

from fedmedlora.audit.chain import read_line
from fedmedlora.audit.entries import Fault, Round
from fedmedlora.audit.log_file import RunLog, lines_of, verify_file
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.experiment import run_study
from fedmedlora.model.saved import read_saved_adapter
from fedmedlora.run_audit import Recorded
from fedmedlora.run_folder import MethodFolder

NUM_ROUNDS = 3


@pytest.fixture(scope="module")
def whole(material, tmp_path_factory):
    """(study, folder, results) of a run that nothing has happened to."""
    root = tmp_path_factory.mktemp("whole")
    study = make_study(
        material, root / "study", methods=["fed_medlora"], modifiers=False, every_round=False,
        rounds=NUM_ROUNDS, cohorts=(), after=NEW_SITE,
        more='[adaptation]\nnum_notes = [1]\nstarts = ["fed_medlora"]\n',
    )  # fmt: skip
    return study, root / "out", run_study(study, root / "out")


def adapters(out: Path) -> dict[str, str]:
    return {p.name: read_saved_adapter(p).hash() for p in sorted((out / "adapters").iterdir())}


def harmed(rounds: Path, harm: str) -> str:
    """Do ``harm`` to a file of ``rounds``; its name."""
    name = {
        "the last adapter": "round-003.safetensors",
        "the last record": "round-003.json",
        "a record before the last": "round-002.json",
        "the first adapter": "round-001.safetensors",
    }[harm]
    content = bytearray((rounds / name).read_bytes())
    place = content.index(b'"answer_seconds"') - 4 if name.endswith("json") else len(content) - 1
    content[place] ^= 1
    (rounds / name).write_bytes(bytes(content))
    return name


@pytest.mark.parametrize(
    "harm", ["the last adapter", "the last record", "a record before the last", "the first adapter"]
)
def test_a_finished_run_computes_again_what_is_damaged_and_all_after_it(whole, tmp_path, caplog, harm):
    study, out, results = whole
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    rounds = copy / "methods" / "fed_medlora"
    before = {path.name: path.read_bytes() for path in rounds.iterdir()}
    name = harmed(rounds, harm)
    first, damaged = int(name[6:9]), (rounds / name).read_bytes()
    with caplog.at_level(logging.WARNING, "fedmedlora"):
        again = run_study(study, copy, resume=True, progress=Interrupting())
    assert without_time(again) == without_time(results)
    assert adapters(copy) == adapters(out)
    # What was there is there still, under another name; the rounds before are as they were.
    assert (rounds / f"{name}.damaged").read_bytes() == damaged
    aside = {f"round-{n:03d}.{end}.damaged" for n in range(first, 4) for end in ("json", "safetensors")}
    assert {path.name for path in rounds.glob("round-*.damaged")} == aside
    for number in range(1, first):
        for end in ("json", "safetensors"):
            kept = f"round-{number:03d}.{end}"
            assert (rounds / kept).read_bytes() == before[kept]
    # A new site that began with the last adapter begins anew as well.
    (adapted,) = (copy / "methods").glob("new_site*")
    assert (adapted / "round-001.json.damaged").exists()
    # One line says so, and the log, which holds those rounds twice, is in order.
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(f"fed_medlora, round {first}: damaged on the disk; ")
    assert verify_file(copy / "audit.jsonl").problems == ()
    entries = [read_line(line).entry for line in lines_of(copy / "audit.jsonl")]
    told = [one.round_num for one in entries if isinstance(one, Round) and one.method == "fed_medlora"]
    assert told == [1, 2, 3, *range(first, 4)]
    assert [(e.what, e.error) for e in entries if isinstance(e, Fault)] == [("unreadable", "DamagedRound")]


def test_a_run_that_was_stopped_goes_on_from_the_last_whole_round(whole, tmp_path):
    study, out, results = whole
    stopped = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_study(study, stopped, progress=Interrupting(at=5, inside=True))  # amid the third round
    rounds = stopped / "methods" / "fed_medlora"
    assert {path.name for path in rounds.glob("*.json")} == {"round-001.json", "round-002.json"}
    harmed(rounds, "a record before the last")
    again = run_study(study, stopped, resume=True)
    assert without_time(again) == without_time(results)
    assert adapters(stopped) == adapters(out)


def test_a_record_that_is_gone_amid_others_is_damage_too(whole, tmp_path):
    study, out, _ = whole
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    rounds = copy / "methods" / "fed_medlora"
    (rounds / "round-002.json").unlink()
    run_study(study, copy, resume=True)
    assert adapters(copy) == adapters(out)
    assert json.loads((rounds / "round-003.json.damaged").read_text())["round_num"] == 3


def test_what_began_with_a_damaged_method_is_put_aside_before_it(tmp_path, monkeypatch):
    """So a run that is killed in between finds the damage again, and not what follows from other rounds."""
    base, follower = MethodFolder(tmp_path / "base"), MethodFolder(tmp_path / "follower")
    adapter = Adapter({"a": np.zeros(2, np.float32)})
    for store in (base, follower):
        store.save(1, adapter, {"round_num": 1})
    (base.folder / "round-001.safetensors").write_bytes(b"")
    recorded = Recorded(base, RunLog(), "fed_medlora", (follower,))
    really = MethodFolder.put_aside

    def killed(store, round_num):
        if store == base:
            raise KeyboardInterrupt
        really(store, round_num)

    monkeypatch.setattr(MethodFolder, "put_aside", killed)
    with pytest.raises(KeyboardInterrupt):
        recorded.load(1)
    assert (follower.finished(), base.finished()) == ([], [1])
    monkeypatch.undo()
    assert recorded.load(1) is None
    assert base.finished() == []
