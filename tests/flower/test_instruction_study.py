"""Instruction data over Flower's messages: the same study, the same adapter, the same scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fedmedlora.experiment import run_study
from fedmedlora.flower.grid_sites import join
from fedmedlora.model.saved import read_saved_adapter
from fedmedlora.report.page import page_text
from fedmedlora.study import load_study

SITES = ("mercy", "county")
STUDY = """\
name = "Questions"
seed = 3
methods = ["fed_medlora_plus"]
[model]
name = "model"
precision = "float32"
[adapter]
rank = 2
alpha = 4.0
[tasks]
names = ["instruction"]
[training]
rounds = 2
steps_per_round = 2
examples_per_step = 4
micro_batch = 2
learning_rate = 1e-2
[validation]
by = "sites"
held_out_sentences = 3
[evaluation]
bootstrap = 20
max_answer_tokens = 4
"""


@pytest.fixture
def folder(tmp_path, model_folders) -> Path:
    shutil.copytree(model_folders["llama"], tmp_path / "model")
    text = STUDY
    for site in SITES:
        for part, num in (("train", 10), ("test", 4)):
            lines: list[dict[str, object]] = [{"format": "fedmedlora-instructions", "version": 1}]
            lines[0]["score"] = "choice" if site == "county" else "token_f1"
            for n in range(num):
                lines.append(
                    {"prompt": f"{site} {part} {n}: fever?", "response": "no", "choices": ["yes", "no"]}
                )
            content = "".join(json.dumps(line) + "\n" for line in lines)
            (tmp_path / f"{site}-{part}.jsonl").write_text(content, encoding="utf-8")
        text += f'[[sites]]\nname = "{site}"\ntrain = "{site}-train.jsonl"\ntest = "{site}-test.jsonl"\n'
        (tmp_path / f"{site}.toml").write_text(
            f'name = "{site}"\ntrain = "{site}-train.jsonl"\ntest = "{site}-test.jsonl"\n'
            f'state = "state-{site}"\nturn = "turn.lock"\n[model]\nname = "model"\nprecision = "float32"\n'
            '[allows]\nvalidates_others = true\nshows_adapter = true\ntasks = ["instruction"]\n'
        )
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    return tmp_path


def over(grid, folder: Path, out: Path) -> dict:
    study = load_study(folder / "study.toml", sites_are_here=False)
    return run_study(
        study, out, elsewhere=lambda terms, progress: join(grid, SITES, terms, progress, wait_s=0.3)
    )


def test_the_same_adapter_and_the_same_scores(folder, grid_over, one_thread):
    here = run_study(load_study(folder / "study.toml"), folder / "here")
    there = over(grid_over([folder / f"{site}.toml" for site in SITES]), folder, folder / "there")
    adapters = [
        read_saved_adapter(folder / out / "adapters" / "fed_medlora_plus").arrays for out in ("here", "there")
    ]
    assert adapters[0].keys() == adapters[1].keys()
    for name, array in adapters[0].items():
        np.testing.assert_array_equal(adapters[1][name], array, err_msg=name)
    curves = [[r["validation"] for r in run["methods"][0]["rounds"]] for run in (here, there)]
    assert curves[0] == curves[1]
    assert len({point["loss"] for point in curves[0]}) == 2
    assert all(point["loss"] > 0 and point["ner_strict_f1"] is None for point in curves[0])
    assert "each site holds out, mean over sites" in page_text(here)
    answers = [[e["answers"] for e in run["methods"][0]["evaluations"]] for run in (here, there)]
    assert answers[0] == answers[1]
    assert [a["metric"] for a in answers[0]] == ["token_f1", "choice"]
    assert not (folder / "there" / "predictions").exists()  # they stay at the sites
    assert any((folder / "here" / "predictions").rglob("*.json"))


def test_a_site_that_does_not_allow_it_refuses(folder, grid_over, one_thread):
    path = folder / "county.toml"
    path.write_text(path.read_text().replace('tasks = ["instruction"]', 'tasks = ["ner"]'))
    with pytest.raises(ValueError, match="tasks instruction are not among those that this site allows"):
        over(grid_over([folder / f"{site}.toml" for site in SITES]), folder, folder / "out")
