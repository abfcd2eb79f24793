from __future__ import annotations

import errno
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from fedmedlora import run_folder
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.run_folder import (
    DamagedRound,
    MethodFolder,
    SignalCache,
    UpdateCache,
    claimed,
    differing_settings,
    is_fresh,
    open_run,
    read_json,
    write_file,
    write_json,
)

ONE = Adapter({"a": np.array([1.5, -0.0], np.float32)})
TWO = Adapter({"a": np.array([2.5, 3.0], np.float32)})
IDENTITY = {"study_hash": "s", "files": {"notes.jsonl": "f"}, "base_model": "b"}


def test_a_new_run_in_a_new_or_an_empty_folder(tmp_path):
    open_run(tmp_path / "a" / "b", IDENTITY, resume=False)
    assert read_json(tmp_path / "a" / "b" / "run.json")["study_hash"] == "s"
    (tmp_path / "empty").mkdir()
    open_run(tmp_path / "empty", IDENTITY, resume=True)  # nothing to go on with: begins


def test_a_run_keeps_its_id_and_no_other_has_it(tmp_path):
    run_id = open_run(tmp_path / "a", IDENTITY, resume=False)
    assert open_run(tmp_path / "a", IDENTITY, resume=True) == run_id
    assert open_run(tmp_path / "b", IDENTITY, resume=False) != run_id
    assert len(run_id) == 32


def test_a_folder_that_holds_a_run_needs_resume(tmp_path):
    open_run(tmp_path, IDENTITY, resume=False)
    with pytest.raises(ValueError, match=r"holds a run already.*--resume"):
        open_run(tmp_path, IDENTITY, resume=False)
    open_run(tmp_path, IDENTITY, resume=True)


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("x")
    for resume in (False, True):
        with pytest.raises(ValueError, match="holds something that is not a run"):
            open_run(tmp_path, IDENTITY, resume=resume)
    with pytest.raises(ValueError, match="holds something that is not a run"):
        open_run(tmp_path / "letter.txt", IDENTITY, resume=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["letter.txt"]


def test_what_a_kill_has_left_of_the_very_first_file_is_nothing(tmp_path):
    """``write_atomically`` was about to put it in its place."""
    (tmp_path / ".run.json.x1y2.part").write_text("{")
    open_run(tmp_path, IDENTITY, resume=False)
    assert is_fresh(tmp_path / "nowhere", "run.json")
    assert not is_fresh(tmp_path, "run.json")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".letter.x1y2.part").write_text("x")
    assert not is_fresh(tmp_path / "other", "run.json")


@pytest.mark.parametrize("key", sorted(IDENTITY))
def test_another_study_notes_or_model_is_refused_and_named(tmp_path, key):
    open_run(tmp_path, IDENTITY, resume=False)
    other = {**IDENTITY, key: {"notes.jsonl": "g"} if key == "files" else "x"}
    told = "settings" if key == "study_hash" else key  # a hash says nothing to a person
    with pytest.raises(ValueError, match=f"differs in {told}, so going on would mix two runs"):
        open_run(tmp_path, other, resume=True)


def test_settings_that_differ_are_named_and_not_shown():
    one = {
        "seed": 1,
        "training": {"rounds": 2, "loss": "lm"},
        "sites": [{"name": "a", "max_notes": 0}, {"name": "b", "max_notes": 0}],
        "rules": {},
        "seeds": [1, 2],
    }
    other = {
        "seed": 1,
        "training": {"rounds": 3, "loss": "lm"},
        "sites": [{"name": "a", "max_notes": 5}, {"name": "c", "max_notes": 0}],
        "rules": {"fedprox": {"mu": 0.5}},
        "seeds": [1],
    }
    assert differing_settings(one, one) == []
    found = differing_settings(one, other)
    assert found == ["training.rounds", "sites.a.max_notes", "sites.b", "sites.c", "rules.fedprox", "seeds"]
    assert differing_settings({}, {"seed": 1}) == ["seed"]


def test_a_run_from_before_settings_were_kept_is_refused_without_their_names(tmp_path):
    open_run(tmp_path, IDENTITY, resume=False)
    with pytest.raises(ValueError, match="differs in settings, so"):
        open_run(tmp_path, {**IDENTITY, "study_hash": "x"}, resume=True, settings={"seed": 1})


def test_rounds_come_back_bit_for_bit(tmp_path):
    store = MethodFolder(tmp_path / "m")
    assert store.load(1) is None
    record = {"round_num": 1, "weights": {"b": 1 / 3, "a": 2 / 3}, "validation": None}
    store.save(1, ONE, record)
    assert store.load(1) == (ONE, record)
    assert list(store.load(1)[1]["weights"]) == ["b", "a"]
    assert store.load(2) is None
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["round-001.json", "round-001.safetensors"]


def test_a_round_without_its_record_is_not_finished(tmp_path, monkeypatch):
    """Killed between the two files, at the worst moment."""
    store = MethodFolder(tmp_path)

    def killed(path, record):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            store.save(1, ONE, {})
    assert store.load(1) is None
    store.save(1, TWO, {})
    assert store.load(1) == (TWO, {})


def harmed(folder, harm: str, round_num: int = 1) -> None:
    """What a disk, or a hand, may do to a finished round."""
    path, record = (folder / f"round-{round_num:03d}.{ending}" for ending in ("safetensors", "json"))
    if harm == "changed":
        path.write_bytes(TWO.to_bytes())
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif harm == "gone":
        path.unlink()
    elif harm == "no hash":
        record.write_text('{"round_num": 1}')
    elif harm == "a number of the record":
        record.write_text(record.read_text().replace("0.25", "0.75"))
    elif harm == "no record":
        record.write_text("[]")
    else:
        record.write_bytes(record.read_bytes()[:-3] + b"\xff")


HARMS = ("changed", "cut", "gone", "no hash", "a number of the record", "no record", "half a record")


@pytest.mark.parametrize("harm", HARMS)
def test_a_round_that_was_tampered_with_is_refused(tmp_path, harm):
    store = MethodFolder(tmp_path)
    store.save(1, ONE, {"round_num": 1, "weights": {"a": 0.25}})
    harmed(tmp_path, harm)
    with pytest.raises(DamagedRound, match=r"round-001\.\w+: not the (adapter|record) that was saved there"):
        store.load(1)


@pytest.mark.parametrize("ending", ["json", "safetensors"])
@pytest.mark.parametrize(
    ("number", "is_damage"), [(errno.EIO, True), (errno.ENOMEM, False), (errno.EACCES, False)]
)
def test_what_cannot_be_read_just_now_is_not_damaged(tmp_path, monkeypatch, ending, number, is_damage):
    store = MethodFolder(tmp_path)
    store.save(1, ONE, {"round_num": 1})
    really = {"read_text": Path.read_text, "read_bytes": Path.read_bytes}

    def reading(name):
        def read(path, *args, **kwargs):
            if path.suffix == f".{ending}":
                raise OSError(number, "not now", str(path))
            return really[name](path, *args, **kwargs)

        return read

    for name in really:
        monkeypatch.setattr(Path, name, reading(name))
    with pytest.raises(DamagedRound if is_damage else OSError) as caught:
        store.load(1)
    assert isinstance(caught.value, DamagedRound) == is_damage


def test_a_record_of_a_version_that_wrote_no_hash_of_it_is_read(tmp_path):
    store = MethodFolder(tmp_path)
    store.save(1, ONE, {"round_num": 1})
    path = tmp_path / "round-001.json"
    record = json.loads(path.read_text())
    assert record.pop("sha256")
    path.write_text(json.dumps(record))
    assert store.load(1) == (ONE, {"round_num": 1})


def test_what_is_put_aside_stays_and_is_no_longer_there(tmp_path):
    store = MethodFolder(tmp_path)
    for number in (1, 2, 3):
        store.save(number, ONE, {"round_num": number})
    write_json(store.evaluation("kiwi", "free"), {"f1": 0.5})
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    store.put_aside(2)
    assert store.finished() == [1]
    assert not store.evaluation("kiwi", "free").exists()
    of_round_1 = {"round-001.json", "round-001.safetensors"}
    expected = {name if name in of_round_1 else f"{name}.damaged": data for name, data in kept.items()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == expected
    # Once more: nothing that was put aside before is written over.
    store.save(2, TWO, {"round_num": 2})
    store.put_aside(2)
    assert (tmp_path / "round-002.safetensors.damaged").read_bytes() == ONE.to_bytes()
    assert (tmp_path / "round-002.safetensors.damaged2").read_bytes() == TWO.to_bytes()


KEY = "e" * 64


def update(site="a.b", round_num=1, adapter=ONE, started_from="0" * 64) -> SiteUpdate:
    return SiteUpdate(site, round_num, adapter, started_from, 12)


def test_updates_are_kept_by_site_round_and_start(tmp_path):
    cache = UpdateCache(tmp_path / "c")
    numbers = {"num_examples": 3, "train_loss": 0.1 + 0.2}
    cache.save(update(), numbers, KEY)
    assert cache.load("a.b", 1, "0" * 64, KEY) == (update(), numbers)
    for other in (("a", 1, "0" * 64), ("a.c", 1, "0" * 64), ("a.b", 2, "0" * 64), ("a.b", 1, "1" * 64)):
        assert cache.load(*other, KEY) is None
    assert cache.load("a.b", 1, "0" * 64, "f" * 64) is None  # other notes, other settings
    cache.clear()
    assert cache.load("a.b", 1, "0" * 64, KEY) is None
    cache.clear()  # nothing to remove is fine


@pytest.mark.parametrize("harm", ["flipped", "cut", "gone"])
def test_a_damaged_update_is_trained_again(tmp_path, harm):
    cache = UpdateCache(tmp_path)
    cache.save(update(), {"num_examples": 3}, KEY)
    (path,) = tmp_path.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content) if harm == "flipped" else bytes(content[:-3]))
    if harm == "gone":
        path.unlink()
    assert cache.load("a.b", 1, "0" * 64, KEY) is None


@pytest.mark.parametrize("harm", [lambda text: text.replace(": 3", ": 7"), lambda text: text[:-3]])
def test_an_update_whose_numbers_are_damaged_is_trained_again(tmp_path, harm):
    cache = UpdateCache(tmp_path)
    cache.save(update(), {"num_examples": 3}, KEY)
    (path,) = tmp_path.glob("*.json")
    path.write_text(harm(path.read_text()))
    assert cache.load("a.b", 1, "0" * 64, KEY) is None


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x\.json: damaged"):
        read_json(tmp_path / "x.json")


def test_a_validation_loss_is_never_kept_with_an_update(tmp_path):
    from dataclasses import replace

    cache = UpdateCache(tmp_path)
    cache.save(replace(update(), validation_loss=0.5), {}, KEY)
    assert cache.load("a.b", 1, "0" * 64, KEY)[0].validation_loss is None


def test_files_are_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "x.json"
    write_json(path, {"a": "é"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "é"}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": "é"}
    write_file(path, b"null")
    assert read_json(path) is None
    assert [p.name for p in path.parent.iterdir()] == ["x.json"], "no temporary file stays behind"


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    import os

    path = tmp_path / "x"
    write_file(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("value", [0.0, 0.1 + 0.2, float("inf"), float("nan")], ids=str)
def test_signals_are_kept_to_the_last_digit(tmp_path, value):
    cache = SignalCache(tmp_path)
    assert cache.load("key") is None
    with cache.claimed(["key", "other", "key"]):  # one that comes twice is no reason to wait
        cache.save("key", value, 1.5)
    assert repr(SignalCache(tmp_path).load("key")) == repr((value, 1.5))


def test_a_claim_waits_for_the_one_that_has_it(tmp_path):
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with claimed(tmp_path, ["a", "b"]):
            entered.set()
            leave.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(20)
    with claimed(tmp_path, ["c"]), claimed(tmp_path, []):  # another piece, and none, are free
        pass
    waited = threading.Event()

    def want():
        with claimed(tmp_path, ["c", "b"]):
            waited.set()

    other = threading.Thread(target=want)
    other.start()
    assert not waited.wait(0.3)
    leave.set()
    assert waited.wait(20)
    for thread in (holder, other):
        thread.join(20)
