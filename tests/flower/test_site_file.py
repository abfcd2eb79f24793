"""``site.toml``: what it may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora.flower.site_file import load_site_file, reference_page

ROOT = Path(__file__).parents[2]
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


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        load_site_file(tmp_path / "site.toml")


def test_the_page_and_the_code_agree():
    assert (ROOT / "docs/flower.md").read_text(encoding="utf-8").endswith(reference_page())
