"""A folder against its passport, and the passport against the log."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'fedmedlora[audit]'")

from fedmedlora.audit.chain import read_line
from fedmedlora.audit.entries import Fault, Finished, Opened
from fedmedlora.audit.log_file import AuditLog, lines_of
from fedmedlora.audit.passport import (
    NO_PRIVACY,
    AdapterFiles,
    LogEnd,
    MadeOf,
    Passport,
    Training,
    write_passport,
)
from fedmedlora.audit.saved_adapter import WEIGHTS, check_folder
from fedmedlora.audit.signing import signer_of

H = "ab" * 32
FAULT = Fault("failed", "", "", "", "ValueError")


@pytest.fixture
def made(tmp_path):
    """(the adapter's folder in a run's, its passport, the signer, the run's log)."""
    run = tmp_path / "run"
    folder = run / "adapters" / "fed_medlora"
    folder.mkdir(parents=True)
    (folder / WEIGHTS).write_bytes(b"weights")
    (folder / "fedmedlora.json").write_bytes(b"{}")
    hashes = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    log = AuditLog(run / "audit.jsonl")
    log.append(FAULT)
    head = log.append(Finished("", {"fed_medlora": hashes[WEIGHTS]}))
    opened = read_line(next(lines_of(log.path))).entry
    assert isinstance(opened, Opened)
    passport = Passport(
        "fedmedlora-passport", 1, "2026-11-29T13:36:00Z", AdapterFiles(H, 7, hashes), MadeOf("x", H, H, H),
        Training("fed_medlora", 1, {}), (), NO_PRIVACY, (), (), LogEnd(opened.log_id, head), {}, "", None,
    )  # fmt: skip
    signer = signer_of(tmp_path / "state")
    (folder / "passport.json").write_bytes(write_passport(passport, signer))
    return folder, passport, signer, log


def test_all_is_well(made):
    folder, _, signer, log = made
    found = check_folder(folder, key=signer.public)
    assert (found.problems, found.notes) == ((), ())
    log.append(FAULT)  # the log goes on
    assert check_folder(folder, key=signer.public).problems == ()
    assert check_folder(folder).notes == (
        "whose key it is was not looked at: name the coordinator's with --key",
    )


def test_other_weights_and_missing_files(made):
    folder, _, _, _ = made
    (folder / WEIGHTS).write_bytes(b"Weights")
    (folder / "fedmedlora.json").unlink()
    assert check_folder(folder).problems == (
        f"{WEIGHTS}: not the file that the passport was made for",
        "fedmedlora.json: is not there",
    )


def test_a_passport_that_leaves_the_weights_out(made):
    folder, passport, signer, _ = made
    files = {"fedmedlora.json": passport.adapter.files["fedmedlora.json"]}
    other = replace(passport, adapter=replace(passport.adapter, files=files))
    (folder / "passport.json").write_bytes(write_passport(other, signer))
    assert f"{WEIGHTS}: the passport says nothing about it" in check_folder(folder).problems


def test_a_log_that_was_cut_off_changed_or_is_another(made, tmp_path):
    folder, _, _, log = made
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:2]))
    assert check_folder(folder).problems == (
        "audit.jsonl, line 2: the log once had 3 entries and ends at 2: its end was cut off",
    )
    log.path.write_bytes(b"".join(lines).replace(b"ValueError", b"ValueErro_"))
    assert check_folder(folder).problems == (
        "audit.jsonl, line 2: changed: its hash is not that of what it holds",
    )
    other = AuditLog(tmp_path / "other.jsonl")
    other.append(FAULT, FAULT)
    (problem,) = check_folder(folder, log=other.path).problems
    assert problem.endswith("the log was written anew")


def test_a_log_in_which_no_run_left_this_adapter(made):
    folder, passport, signer, log = made
    head = log.append(Finished("", {"fed_medlora": H}))
    early = log.append(FAULT)
    assert check_folder(folder).problems == ()
    (folder / WEIGHTS).write_bytes(b"other")
    files = {WEIGHTS: hashlib.sha256(b"other").hexdigest()}
    for end in (head, early):
        other = replace(passport, adapter=AdapterFiles(H, 5, files), audit=replace(passport.audit, head=end))
        (folder / "passport.json").write_bytes(write_passport(other, signer))
        assert check_folder(folder).problems == ("audit.jsonl: no run in it finished with this adapter",)
    # Nor one that finished after the passport was made.
    log.append(Finished("", {"fed_medlora": files[WEIGHTS]}))
    assert check_folder(folder).problems == ("audit.jsonl: no run in it finished with this adapter",)
    named = replace(other, audit=replace(other.audit, log_id="0" * 32))
    (folder / "passport.json").write_bytes(write_passport(named, signer))
    assert check_folder(folder).problems == (
        "audit.jsonl: is another log than the one that the passport names",
    )


def test_a_folder_away_from_its_run(made, tmp_path):
    folder, passport, _, log = made
    away = tmp_path / "away" / "a" / "b"
    away.parent.mkdir(parents=True)
    folder.rename(away)
    assert check_folder(away).notes[-1] == "the audit log is not at hand: name it with --log"
    assert check_folder(away, log=log.path).problems == ()
    (away / "passport.json").write_bytes(write_passport(passport, None))
    found = check_folder(away)
    assert found.problems == ()
    assert found.notes[0] == "signature: none; anybody could have written this passport"


def test_no_passport(tmp_path):
    with pytest.raises(ValueError, match=r"holds no passport\.json"):
        check_folder(tmp_path)
    (tmp_path / "passport.json").write_text("{}\n")
    with pytest.raises(ValueError, match="passport: format and version"):
        check_folder(tmp_path)
