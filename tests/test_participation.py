"""Who takes part in a round."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from tiny_study import make_study, short_note, write

from fedmedlora.experiment import run_study
from fedmedlora.participation import last_rounds, participants
from fedmedlora.progress import Silent
from fedmedlora.study import parse_study

SITES = ("d", "a", "c", "b")


def test_everybody_by_default_in_their_order():
    assert participants(SITES, 1) == SITES


def test_a_share_is_rounded_up_and_never_nobody():
    assert [len(participants(SITES, 1, share=s)) for s in (0.01, 0.25, 0.26, 0.5, 0.75, 0.76, 1.0)] == [
        1,
        1,
        2,
        2,
        3,
        4,
        4,
    ]
    assert len(participants([str(i) for i in range(10)], 1, share=0.3)) == 3  # 0.3 * 10 is a little over 3


def test_draws_depend_on_seed_and_round_and_not_on_the_order_of_the_sites():
    first = participants(SITES, 3, share=0.5, seed=7)
    assert set(first) == set(participants(tuple(reversed(SITES)), 3, share=0.5, seed=7))
    many = Counter(name for r in range(1, 401) for name in participants(SITES, r, share=0.5))
    assert all(150 < many[name] < 250 for name in SITES)  # 200 expected, standard deviation 10


def test_who_is_away_is_not_asked():
    away = {"a": (1, 2), "b": (2,)}
    assert participants(SITES, 1, away=away) == ("d", "c", "b")
    assert participants(SITES, 2, away=away) == ("d", "c")
    assert participants(SITES, 3, away=away) == SITES
    with pytest.raises(ValueError, match=r"round 1: every site is away \(absent_rounds\)"):
        participants(("a",), 1, away=away)


SITE = '[[sites]]\nname = "a"\ntrain = "a.jsonl"\ntest = "t.jsonl"\n'
AWAY = (
    'name = "s"\nmethods = ["zero_shot", "fed_medlora"]\n'
    + SITE
    + "absent_rounds = [1, 2]\n"
    + '[[sites]]\nname = "b"\ntrain = "b.jsonl"\nabsent_rounds = {}\n'
)


def test_a_round_without_sites_is_refused_before_the_first():
    assert parse_study(AWAY.format("[3]"))[1] == ()
    with pytest.raises(ValueError, match=r"\[\[sites\]\] absent_rounds: every site is away in round 2;"):
        parse_study(AWAY.format("[2, 3]"))
    one_round = AWAY.format("[3]") + "[training]\nrounds = 1\n"
    assert len(parse_study(one_round)[1]) == 2  # rounds 2 and 3 never come
    alone = AWAY.format("[2]").replace('"zero_shot", "fed_medlora"', '"single_site"')
    assert parse_study(alone)  # one site alone always trains
    assert parse_study(AWAY.format("[2]") + "[federation]\nnum_sites = 2\n")[1][0] == (
        "[[sites]] a absent_rounds: 1 has no effect, its notes are dealt to simulated sites"
    )


def test_a_site_that_is_away_scores_nobody(material, tmp_path):
    """Three sites that score each other's adapters, and the means that a temperature is searched among."""
    study = make_study(
        material, tmp_path / "study", methods=["fed_medlora_plus"], cohorts=(), every_round=True,
        sites=("lakeside", "northgate", "stonebridge"), site_more={"northgate": "absent_rounds = [2]\n"},
        more='[rules.fed_medlora_plus]\nweigh = "searched"\n', evaluate=False,
    )  # fmt: skip
    for name in ("lakeside", "northgate", "stonebridge"):  # enough notes to hold some out
        write(tmp_path / "study" / f"{name}.train.jsonl", [short_note(name, i, "train", 5) for i in range(6)])
    by_sites = replace(study.validation, by="sites", notes=(), held_out_sentences=2)
    asked: list[str] = []

    class Listening(Silent):
        def stage(self, label, cost):
            asked.append(label)
            return super().stage(label, cost)

    results = run_study(replace(study, validation=by_sites), tmp_path / "out", progress=Listening())
    (method,) = results["methods"]
    assert [sorted(r["weights"]) for r in method["rounds"]] == [
        ["lakeside", "northgate", "stonebridge"],
        ["lakeside", "stonebridge"],
    ]
    told = [label.split()[0] for label in asked if "scores adapters" in label]
    # In every round the adapters, the means of four temperatures, and the new adapter.
    assert told == 3 * ["lakeside", "northgate", "stonebridge"] + 3 * ["lakeside", "stonebridge"]
    assert all(r["validation"]["loss"] > 0 for r in method["rounds"])


def test_the_last_round_of_each():
    there = {1: ("a", "b"), 2: ("b",), 3: ("c",)}
    assert last_rounds(("a", "b", "c", "d"), 4, there.__getitem__) == {"a": 1, "b": 2, "c": 3, "d": 0}
    assert last_rounds(("a", "b", "c"), 3, there.__getitem__) == {"a": 1, "b": 2, "c": 0}
    assert last_rounds(("a",), 1, there.__getitem__) == {"a": 0}
    assert last_rounds((), 4, there.__getitem__) == {}
