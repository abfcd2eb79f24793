import json
import subprocess
import sys

import numpy as np
import pytest

from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.evaluation.counts import Counts, TypedCounts
from fedmedlora.evaluation.score import Agreement
from fedmedlora.evaluation.summary import evaluate, summarize

SCOPE = Annotates(frozenset({"drug", "problem"}), frozenset({"drug.dosage", "problem.negation"}))
SIX = ("tp", "fp", "fn", "precision", "recall", "f1")


def drugs(name, *spans):
    """A note with one drug per (start, end)."""
    return Note(name, "", tuple(Entity(f"T{i}", "drug", (s,)) for i, s in enumerate(spans)), (), (), SCOPE)


def test_two_notes_worked_by_hand():
    gold = [drugs("a", (0, 5), (10, 15)), drugs("b", (0, 5))]
    found = [drugs("b", (0, 5), (20, 25)), drugs("a", (0, 4))]
    numbers = evaluate(gold, found)["entities"]
    # strict: a misses both and invents [0,4); b has one right and one invented
    assert numbers["strict"] == {
        "tp": 1,
        "fp": 2,
        "fn": 2,
        "precision": pytest.approx(1 / 3),
        "recall": pytest.approx(1 / 3),
        "f1": pytest.approx(1 / 3),
        "macro_f1": pytest.approx(1 / 3),  # problem has nothing to count and is left out
        "interval": None,
        "per_type": {
            "drug": {k: numbers["strict"][k] for k in SIX},
            "problem": {"tp": 0, "fp": 0, "fn": 0, "precision": None, "recall": None, "f1": None},
        },
    }
    # lenient: [0,4) overlaps [0,5): 2 right, 1 invented, 1 missed
    assert [numbers["lenient"][k] for k in SIX[:3]] == [2, 1, 1]


def test_macro_is_the_mean_over_types_and_micro_is_not():
    # drug 8/8 right = 1; problem 0 of 2 = 0: macro 0.5, micro 16/18
    counts = TypedCounts({"drug": Counts(8, 0, 0), "problem": Counts(0, 0, 2)})
    strict = summarize([Agreement(counts, counts)])["strict"]
    assert strict["macro_f1"] == 0.5
    assert strict["f1"] == pytest.approx(16 / 18)


def test_every_kind_has_both_criteria_and_the_documented_keys():
    result = evaluate([drugs("a")], [])
    assert list(result) == ["entities", "modifiers", "links"]
    for kind in result.values():
        assert list(kind) == ["strict", "lenient"]
        for numbers in kind.values():
            assert list(numbers) == [*SIX, "macro_f1", "interval", "per_type"]
            for per_type in numbers["per_type"].values():
                assert list(per_type) == list(SIX)
    assert list(result["entities"]["strict"]["per_type"]) == ["drug", "problem"]
    assert list(result["modifiers"]["strict"]["per_type"]) == ["dosage", "negation"]
    assert list(result["links"]["strict"]["per_type"]) == ["drug.dosage", "problem.negation"]


def test_nothing_at_all():
    numbers = evaluate([], [], rng=np.random.default_rng(0))["links"]["strict"]
    assert numbers == {
        **dict.fromkeys(SIX[:3], 0),
        **dict.fromkeys((*SIX[3:], "macro_f1", "interval")),
        "per_type": {},
    }
    assert summarize([])["strict"]["f1"] is None


def test_result_is_plain_json():
    gold = [
        Note(
            name,
            "",
            (Entity("T1", "drug", ((0, 5),)),),
            (Entity("M1", "dosage", ((6, 9),)),),
            (Link("T1", "M1"),),
            SCOPE,
        )
        for name in ("a", "b", "c")
    ]
    result = evaluate(gold, gold[:2], rng=np.random.default_rng(0))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["links"]["strict"]["per_type"]["drug.dosage"]["tp"] == 2


def test_interval_is_there_with_a_generator_and_holds_the_score():
    gold = [drugs(f"n{i}", (0, 5), (10, 15)) for i in range(20)]
    found = [drugs(f"n{i}", (0, 5), (30 + i, 40)) if i % 3 else drugs(f"n{i}") for i in range(20)]
    with_rng = evaluate(gold, found, rng=np.random.default_rng(7))
    strict = with_rng["entities"]["strict"]
    low, high = strict["interval"]
    assert 0 < low < strict["f1"] < high < 1
    assert evaluate(gold, found, rng=np.random.default_rng(7)) == with_rng
    # the order in which files were read does not matter, for the interval either
    assert evaluate(gold[::-1], found[::-1], rng=np.random.default_rng(7)) == with_rng


def test_one_note_has_a_score_and_no_interval():
    numbers = evaluate([drugs("a", (0, 5))], [drugs("a", (0, 5))], rng=np.random.default_rng(0))
    assert numbers["entities"]["strict"]["f1"] == 1.0
    assert numbers["entities"]["strict"]["interval"] is None


def test_types_that_only_some_notes_annotate_are_summed_over_those():
    # b's source does not annotate drugs: its predicted drug is neither right nor wrong
    narrow = Annotates(frozenset({"problem"}), frozenset())
    b = Note("b", "", (Entity("T1", "problem", ((0, 3),)),), (), (), narrow)
    result = evaluate([drugs("a", (0, 5)), b], [drugs("a", (0, 5)), drugs("b", (0, 5))])
    per_type = result["entities"]["strict"]["per_type"]
    assert [per_type["drug"][k] for k in SIX[:3]] == [1, 0, 0]
    assert [per_type["problem"][k] for k in SIX[:3]] == [0, 0, 1]


def test_a_predicted_id_twice_is_refused():
    with pytest.raises(ValueError, match="several notes with the id 'a'"):
        evaluate([drugs("a")], [drugs("a"), drugs("a")])


def test_a_predicted_note_that_gold_does_not_have_is_refused():
    with pytest.raises(ValueError, match="gold does not have: 'z'"):
        evaluate([drugs("a")], [drugs("z")])


def test_generators_are_accepted():
    assert evaluate(iter([drugs("a", (0, 5))]), iter([]))["entities"]["strict"]["fn"] == 1


def test_scoring_needs_no_torch():
    code = "import sys, fedmedlora.evaluation.summary; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
