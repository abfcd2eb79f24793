"""A study whose sites train in two processes: the same adapters as in one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_study import make_study

from fedmedlora.experiment import run_study
from fedmedlora.model.saved import read_saved_adapter
from fedmedlora.study import parse_study

ADAPTERS = ("fed_medlora", "centralized")


def small(material, tmp_path, methods=ADAPTERS):
    folder = tmp_path / "study"
    return make_study(material, folder, methods=methods, modifiers=False, every_round=False, evaluate=False)


def test_a_study_on_two_devices(material, tmp_path):
    study = small(material, tmp_path)
    study = replace(study, adapter=replace(study.adapter, dropout=0.0))  # its masks are of a process
    both = replace(study, model=replace(study.model, devices=2))
    folders = [tmp_path / "one", tmp_path / "two"]
    for wanted, folder in zip((study, both), folders, strict=True):
        run_study(wanted, folder)
    for name in ADAPTERS:
        alone, together = (read_saved_adapter(folder / "adapters" / name) for folder in folders)
        assert alone != together, "the order of sums differs, so the second was no copy of the first"
        one, other = (np.concatenate([*map(np.ravel, a.arrays.values())]) for a in (alone, together))
        assert np.linalg.norm(other - one) <= 1e-5 * np.linalg.norm(one)


def test_what_this_machine_has_not_is_refused_first(material, tmp_path):
    study = small(material, tmp_path, ["fed_medlora"])
    for name in ("paged_adamw", "paged_adamw_8bit"):
        wanted = replace(study, model=replace(study.model, optimizer=name))
        with pytest.raises(ValueError, match="needs an NVIDIA GPU"):
            run_study(wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("devices = 0", "at least 1"),
        ('devices = "all"', '"auto" or whole number'),
        ("devices = 1.5", '"auto" or whole number'),
        ('optimizer = "paged"', "did you mean paged_adamw"),
    ],
)
def test_what_a_study_may_not_say(table, message):
    rest = '[[sites]]\nname = "a"\ntrain = "a.jsonl"\n[validation]\nnotes = ["v.jsonl"]\n'
    with pytest.raises(ValueError, match=message):
        parse_study(f'name = "x"\n[model]\n{table}\n{rest}')


@pytest.mark.parametrize(
    ("more", "here", "why"),
    [('methods = ["zero_shot"]', True, "nothing is trained"), ("", False, "say it in their site.toml")],
)
def test_what_has_no_effect_is_said(more, here, why):
    site = '[[sites]]\nname = "a"\n' + ('train = "a.jsonl"\n' if here else "")
    text = f'name = "x"\n{more}\n[model]\ndevices = 2\n{site}[validation]\nnotes = ["v.jsonl"]\n'
    _, notices = parse_study(text, sites_are_here=here)
    assert any(n.startswith("[model] devices: no effect") and why in n for n in notices)
