"""What a run leaves beside its results: a log that verifies, and a passport for every adapter."""

from __future__ import annotations

import json

import pytest
from interrupting import Interrupting
from tiny_study import SITES, make_study

from fedmedlora.audit.chain import read_line
from fedmedlora.audit.entries import (
    Admission,
    Fault,
    Finished,
    Joined,
    Round,
    Settings,
    Started,
    Versions,
    kind_of,
)
from fedmedlora.audit.in_force import flat
from fedmedlora.audit.log_file import lines_of, verify_file
from fedmedlora.audit.passport import NO_PRIVACY, pseudonym, read_passport
from fedmedlora.audit.saved_adapter import check_folder
from fedmedlora.audit.signing import signer_of
from fedmedlora.experiment import run_study
from fedmedlora.model.saved import read_saved_adapter


def entries_of(out) -> list:
    return [read_line(line).entry for line in lines_of(out / "audit.jsonl")]


@pytest.fixture(scope="module")
def finished(material, tmp_path_factory):
    """(study, folder, results, signer) of a run that was stopped in its second round and went on."""
    root = tmp_path_factory.mktemp("audited")
    study = make_study(
        material, root / "study", methods=["single_site", "fed_medlora"], modifiers=False, every_round=False
    )
    signer = signer_of(root / "state")
    with pytest.raises(KeyboardInterrupt):
        run_study(study, root / "out", progress=Interrupting(at=1, inside=True))
    results = run_study(study, root / "out", resume=True, signer=signer)
    return study, root / "out", results, signer


def test_the_log_tells_the_run_and_its_stop(finished):
    _, out, results, _ = finished
    found = verify_file(out / "audit.jsonl")
    assert found.problems == ()
    entries = entries_of(out)
    rounds = [entry for entry in entries if isinstance(entry, Round)]
    told = [kind_of(entry) for entry in entries if not isinstance(entry, (Round, Admission))]
    admitted = [entry for entry in entries if isinstance(entry, Admission)]
    assert {(one.method, one.round_num, one.site) for one in admitted} == {
        (one.method, one.round_num, site) for one in rounds for site in one.weights
    }
    assert all(one.is_admitted and not one.reason for one in admitted)
    start = ["started", "versions", "settings"]
    assert told == ["log", *start, "fault", *start, "finished"]
    starts = [entry for entry in entries if isinstance(entry, Started)]
    assert [one.is_resumed for one in starts] == [False, True]
    assert {one.run for one in starts} == {json.loads((out / "run.json").read_text())["run_id"]}
    assert {one.sites for one in starts} == {SITES}
    (fault,) = (entry for entry in entries if isinstance(entry, Fault))
    assert (fault.what, fault.error) == ("failed", "KeyboardInterrupt")
    # Every round once, with its weights and the adapter that came of it.
    expected = [
        (method["name"], one["round_num"], one["weights"])
        for method in results["methods"]
        for one in method["rounds"]
    ]
    assert [(one.method, one.round_num, one.weights) for one in rounds] == expected
    for one in rounds:
        record = out / "methods" / one.method.replace(":", "-") / f"round-00{one.round_num}.json"
        assert json.loads(record.read_text())["adapter_hash"] == one.adapter_hash
    settings = next(entry for entry in entries if isinstance(entry, Settings)).settings
    assert settings["training.rounds"] == 2
    assert settings["sites.0.name"] == SITES[0]
    assert next(e for e in entries if isinstance(e, Versions)).versions["fedmedlora"]


def test_every_adapter_has_a_passport_that_verifies(finished):
    study, out, results, signer = finished
    (end,) = (entry for entry in entries_of(out) if isinstance(entry, Finished))
    run_id = end.run
    assert sorted(end.adapters) == ["fed_medlora", *(f"single_site:{site}" for site in SITES)]
    for method in results["methods"]:
        folder = out / method["adapter"]
        found = check_folder(folder, key=signer.public)
        assert (found.problems, found.notes) == ((), ())
        passport = found.read.passport
        assert passport.adapter.hash == read_saved_adapter(folder).hash()
        assert passport.study_hash == study.study_hash()
        assert passport.privacy_ledger == NO_PRIVACY
        names = SITES if method["name"] == "fed_medlora" else (method["name"].split(":")[1],)
        assert {(one.pseudonym, one.num_rounds) for one in passport.sites} == {
            (pseudonym(name, run_id), 2) for name in names
        }
        called = {name: pseudonym(name, run_id) for name in SITES} | {"stonebridge": "stonebridge"}
        scored = {
            (s.cohort, s.criterion): (s.tp, s.fp, s.fn, s.f1) for s in passport.scores if s.kind == "entities"
        }
        assert scored == {
            (called[e["cohort"]], criterion): tuple(
                e["scores"]["entities"][criterion][k] for k in ("tp", "fp", "fn", "f1")
            )
            for e in method["evaluations"]
            for criterion in ("strict", "lenient")
        }
        assert {s.is_site for s in passport.scores if s.cohort == "stonebridge"} == {False}
        # No site's name, and not the id by which names could be tried out.
        text = (folder / "passport.json").read_text()
        assert not any(word in text for word in (*SITES, run_id))


def test_settings_by_dotted_name():
    table = {"a": {"b": 1, "c": [True, "x y", {"name": "z"}]}, "d": None, "e": [], "f": 0.5}
    found = flat(table)
    assert found.pop("a.c.1").startswith("sha256:")
    assert found == {"a.b": 1, "a.c.0": True, "a.c.2.name": "z", "f": 0.5}


def test_an_unsigned_passport_says_so_and_sites_in_the_process_do_not_join(material, tmp_path):
    study = make_study(
        material, tmp_path / "study", methods=["fed_medlora"], modifiers=False, every_round=False, rounds=1,
        evaluate=False, cohorts=(),
    )  # fmt: skip
    run_study(study, tmp_path / "out")
    folder = tmp_path / "out" / "adapters" / "fed_medlora"
    found = read_passport((folder / "passport.json").read_bytes())
    assert (found.signature, found.passport.key, found.passport.scores) == ("none", None, ())
    assert check_folder(folder).problems == ()
    assert not any(isinstance(entry, Joined) for entry in entries_of(tmp_path / "out"))
