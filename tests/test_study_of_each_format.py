"""From every format to a report: convert, split, run; with the samples of the readers' contract suite."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from fedmedlora.cli import main
from fedmedlora.corpora.formats import reader_names
from fedmedlora.corpora.jsonl import read_notes
from fedmedlora.report.results import read_results
from fedmedlora.tasks.form import known_forms

MAPPING = """\
format = "fedmedlora-mapping"
version = 1
name = "sample"
reader = "{reader}"
[[entity]]
label = ["X", "Effect"]
type = "problem"
"""
STUDY = """\
name = "From {reader} in {form}"
methods = ["zero_shot", "fed_medlora"]
[model]
name = "{model}"
precision = "float32"
[adapter]
rank = 2
alpha = 4.0
[tasks]
names = ["ner"]
prompts = "short"
form = "{form}"
[training]
rounds = 1
steps_per_round = 1
examples_per_step = 2
micro_batch = 2
[evaluation]
bootstrap = 10
[[sites]]
name = "sample"
train = "parts/train.jsonl"
test = "parts/test.jsonl"
"""


def samples():
    """The table of the reader contract, which lies in another test file."""
    path = Path(__file__).parent / "corpora" / "test_reader_contract.py"
    spec = importlib.util.spec_from_file_location("reader_contract_samples", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SAMPLES


@pytest.mark.parametrize("form", known_forms())
@pytest.mark.parametrize("reader", reader_names())
def test_a_study(reader, form, model_folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    write, notes, _ = samples()[reader]
    write(Path("raw"), False)
    Path("mapping.toml").write_text(MAPPING.format(reader=reader))
    assert (
        main(["corpora", "convert", "--reader", reader, "--mapping", "mapping.toml", "raw", "a.jsonl"]) == 0
    )
    assert main(["corpora", "split", "a.jsonl", "--out", "parts", "--parts", "train=0.67,test=0.33"]) == 0
    Path("study.toml").write_text(STUDY.format(reader=reader, form=form, model=model_folders["llama"]))
    assert main(["run", "study.toml", "--out", "run"]) == 0
    results = read_results("run/results.json")
    (cohort,) = results["cohorts"]
    assert cohort["num_train_notes"] + cohort["num_test_notes"] == len(notes)
    assert [m["name"] for m in results["methods"]] == ["zero_shot", "fed_medlora"]
    trained = results["methods"][1]["evaluations"][0]
    gold = trained["scores"]["entities"]["strict"]
    parts = {part: read_notes(f"parts/{part}.jsonl").notes for part in ("train", "test")}
    num_gold = {part: sum(len(n.entities) for n in found) for part, found in parts.items()}
    assert gold["tp"] + gold["fn"] == num_gold["test"]
    assert sum(num_gold.values()) == sum(len(spans) for _, spans in notes)
    assert sum(results["methods"][1]["rounds"][0]["weights"].values()) == 1
    assert Path("run/report.html").stat().st_size > 10_000
