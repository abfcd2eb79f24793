"""``site.toml``: what it may hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedmedlora.flower.allows import Refused
from fedmedlora.flower.site_file import load_site_file, reference_page
from fedmedlora.provision.consortium import Consortium, CoordinatorPlace, Member
from fedmedlora.provision.kit import provision
from fedmedlora.provision.payload import Payload
from fedmedlora.terms import Terms

ROOT = Path(__file__).parents[2]
A, B = "a" * 64, "b" * 64
SMALL = 'name = "mercy"\ntrain = "train.jsonl"\n'


def site(tmp_path, text: str):
    path = tmp_path / "site.toml"
    path.write_text(text)
    return load_site_file(path)


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


def test_the_model_of_a_kit_is_the_one_that_is_allowed(tmp_path):
    """``provision --model`` writes the hash under [coordinator]; what is refused follows [allows]."""
    place = CoordinatorPlace("coordinator.example:8000")
    consortium = Consortium("One", coordinator=place, sites=(Member("mercy"),))
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    for name, payload in (("with", Payload(model=model, model_hash=A)), ("without", Payload())):
        provision(consortium, tmp_path / name, datetime.now(UTC), payload=payload)
    pinned = load_site_file(tmp_path / "with" / "mercy" / "site.toml").allows
    assert pinned.base_model == A
    terms = Terms(seed=0, base_model=A, tokenizer="", frame=("", ""), prompts="")
    pinned.refuse_terms(terms)
    told = f"has sha256 {B}; this site allows {A} \\(base_model\\)"
    with pytest.raises(Refused, match=told):
        pinned.refuse_terms(replace(terms, base_model=B))
    load_site_file(tmp_path / "without" / "mercy" / "site.toml").allows.refuse_terms(terms)


def test_a_hospital_s_own_word_counts_for_more_than_its_kit_s(tmp_path):
    found = site(tmp_path, SMALL + f'[coordinator]\nmodel_hash = "{A}"\n[allows]\nbase_model = "{B}"\n')
    assert found.allows.base_model == B
    with pytest.raises(ValueError, match="model_hash: 'c0ffee' is no sha256"):
        site(tmp_path, SMALL + '[coordinator]\nmodel_hash = "c0ffee"\n')


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        load_site_file(tmp_path / "site.toml")


def test_the_page_and_the_code_agree():
    assert (ROOT / "docs/flower.md").read_text(encoding="utf-8").endswith(reference_page())
