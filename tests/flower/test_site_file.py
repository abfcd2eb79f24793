"""``site.toml``: what it may hold, and what it refuses of a study's terms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fedmedlora.flower.site_file import Refused, load_site_file, reference_page
from fedmedlora.study_tables import Lora, Tasks, Training
from fedmedlora.terms import Terms

ROOT = Path(__file__).parents[2]
SMALL = 'name = "mercy"\ntrain = "train.jsonl"\n'


def site(tmp_path, text: str):
    path = tmp_path / "site.toml"
    path.write_text(text)
    return load_site_file(path)


def terms(**changes) -> Terms:
    made = Terms(seed=0, base_model="a", tokenizer="b", frame=("", ""))
    return replace(made, **changes)


def test_the_smallest_file(tmp_path):
    found = site(tmp_path, SMALL)
    assert (found.name, found.test, found.turn) == ("mercy", "", "")
    assert found.path(found.train) == tmp_path / "train.jsonl"
    assert not found.allows.validates_others
    assert found.model_name() == "smollm2-135m"
    (tmp_path / "models").mkdir()
    found = site(tmp_path, SMALL + '[model]\nname = "models"\n')
    assert found.model_name() == str((tmp_path / "models").resolve())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "name: missing"),
        ('name = "mercy"\n', "train: missing"),
        ('name = "mercy"\ntrain = ""\n', "train: empty"),
        ('name = "../mercy"\ntrain = "x"\n', "site name '../mercy' is not allowed"),
        (SMALL + 'tset = "x"\n', "tset: unknown key; did you mean test"),
        (SMALL + "[allows]\nmax_rounds = 0\n", "max_rounds: 0 is out of range"),
        (SMALL + '[allows]\nvalidates_others = "yes"\n', "validates_others"),
        (SMALL + '[allows]\ntasks = ["nre"]\n', "unknown task 'nre'"),
        ("name = ", "not TOML"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        site(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        load_site_file(tmp_path / "site.toml")


def test_what_is_allowed_passes_at_the_limit_and_no_further(tmp_path):
    found = site(
        tmp_path,
        SMALL + '[allows]\nmax_rounds = 3\nmax_steps_per_round = 10\nmax_rank = 8\ntasks = ["ner"]\n',
    )
    good = terms(
        training=Training(rounds=3, steps_per_round=10), adapter=Lora(rank=8), tasks=Tasks(names=("ner",))
    )
    found.refuse(good)
    for changes in (
        {"training": Training(rounds=4, steps_per_round=10)},
        {"training": Training(rounds=3, steps_per_round=11)},
        {"adapter": Lora(rank=9)},
        {"tasks": Tasks(names=("ner", "modifiers"))},
        {"held_out_sentences": 1},
    ):
        with pytest.raises(Refused):
            found.refuse(replace(good, **changes))


def test_validation_by_the_sites_where_the_site_says_so(tmp_path):
    site(tmp_path, SMALL + "[allows]\nvalidates_others = true\n").refuse(terms(held_out_sentences=10))


def test_the_page_and_the_code_agree():
    assert (ROOT / "docs/flower.md").read_text(encoding="utf-8").endswith(reference_page())
