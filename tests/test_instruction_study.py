"""A whole study of instruction data on the command line, with a tiny model that learns its few answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmedlora.cli import main
from fedmedlora.model.saved import read_manifest
from fedmedlora.report.results import read_results, read_study_results

SIGNS = ("fever", "cough", "nausea", "rash")
STUDY = """\
name = "questions"
seed = 4
methods = ["zero_shot", "single_site", "centralized", "fed_medlora", "fed_medlora_plus"]
[model]
name = "model"
precision = "float32"
[adapter]
rank = 8
alpha = 32.0
[tasks]
names = ["instruction"]
[training]
rounds = 2
steps_per_round = 40
examples_per_step = 8
micro_batch = 8
learning_rate = 1e-2
warmup_steps = 2
[validation]
notes = ["validation.jsonl"]
max_sentences = 4
[evaluation]
bootstrap = 50
max_answer_tokens = 8
[[sites]]
name = "mercy"
train = "mercy.jsonl"
test = "mercy-test.jsonl"
[[sites]]
name = "county"
train = "county.jsonl"
test = "county-test.jsonl"
[[cohorts]]
name = "abroad"
kind = "external"
test = "abroad.jsonl"
"""


def records(part: str, num: int) -> list[dict[str, object]]:
    """Whether a sign is there depends on the first word, which the model can learn."""
    found = []
    for number in range(num):
        sign, is_there = SIGNS[number % 4], number % 3 == 0
        words = f"{'Has' if is_there else 'Denies'} {sign}, {part} {number}."
        found.append(
            {"instruction": "Is it there?", "prompt": words, "response": "yes" if is_there else "no",
             "choices": ["yes", "no"], "group": f"{part} {number}"}
        )  # fmt: skip
    return found


def write(path: Path, lines: list[dict[str, object]], score: str) -> None:
    header = {"format": "fedmedlora-instructions", "version": 1, "score": score, "synthetic": True}
    path.write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)), encoding="utf-8")


@pytest.fixture(scope="module")
def material(tmp_path_factory, tokenizer_of, save_model) -> Path:
    root = tmp_path_factory.mktemp("instruction-study")
    words = " ".join(["Is it there? Has Denies yes no", *SIGNS])
    save_model(root / "model", "llama", tokenizer=tokenizer_of([words] * 4, 330))
    write(root / "mercy.jsonl", records("a", 24), "exact_match")
    write(root / "county.jsonl", records("b", 12), "exact_match")
    write(root / "mercy-test.jsonl", records("c", 9), "exact_match")
    write(root / "county-test.jsonl", records("d", 9), "choice")
    write(root / "abroad.jsonl", records("e", 9), "token_f1")
    write(root / "validation.jsonl", records("f", 6), "exact_match")
    (root / "study.toml").write_text(STUDY, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def run(material) -> Path:
    out = material / "run"
    assert main(["run", str(material / "study.toml"), "--out", str(out)]) == 0
    return out


def test_every_cohort_is_scored_as_its_file_says(run):
    results = read_results(run / "results.json")
    metrics = {"mercy": "exact_match", "county": "choice", "abroad": "token_f1"}
    assert [m["name"] for m in results["methods"]] == [
        "zero_shot", "single_site:mercy", "single_site:county",
        "centralized", "fed_medlora", "fed_medlora_plus",
    ]  # fmt: skip
    for method in results["methods"]:
        assert [e["cohort"] for e in method["evaluations"]] == ["mercy", "county", "abroad"]
        for evaluation in method["evaluations"]:
            answers = evaluation["answers"]
            assert answers["metric"] == metrics[evaluation["cohort"]]
            assert answers["num_records"] == evaluation["num_examples"] == 9
            assert answers["interval"][0] <= answers["score"] <= answers["interval"][1]
            assert evaluation["decoding"] == "free"
            assert set(evaluation["scores"].values()) == {None}
    mercy, _, abroad = results["cohorts"]
    assert (mercy["num_train_notes"], mercy["num_test_sentences"]) == (24, 9)
    assert abroad["kind"] == "external"
    assert mercy["annotates"] == {"entities": [], "pairs": []}


def test_the_federation_learns_what_the_files_say(run):
    methods = {m["name"]: m for m in read_results(run / "results.json")["methods"]}

    def score(method: str, cohort: str) -> float:
        return next(e for e in methods[method]["evaluations"] if e["cohort"] == cohort)["answers"]["score"]

    # Six of nine records of a cohort say "no": more than that is learned from the prompt.
    assert score("zero_shot", "mercy") < 0.5
    for method in ("centralized", "fed_medlora", "fed_medlora_plus"):
        assert all(score(method, cohort) > 0.7 for cohort in ("mercy", "county", "abroad")), method
    losses = [r["validation"]["loss"] for r in methods["fed_medlora"]["rounds"]]
    assert losses[-1] < 0.5
    weights = methods["fed_medlora"]["rounds"][0]["weights"]
    assert weights["mercy"] == pytest.approx(2 / 3, abs=0.01)  # by target tokens: twice the records


def test_several_seeds_give_each_run_its_answers_and_the_study_none(material):
    text = STUDY.replace("seed = 4\n", "seed = 4\nseeds = [4, 5]\n").replace(" = 40\n", " = 1\n")
    methods = text[text.index("methods =") : text.index("[model]")]
    (material / "seeds.toml").write_text(
        text.replace(methods, 'methods = ["fed_medlora"]\n'), encoding="utf-8"
    )
    out = material / "seeds"
    assert main(["run", str(material / "seeds.toml"), "--out", str(out)]) == 0
    together = read_study_results(out / "study-results.json")
    assert together["scores"] == together["means"] == together["comparisons"] == []
    answers = [
        read_results(out / run["folder"] / "results.json")["methods"][0]["evaluations"][0]["answers"]
        for run in together["runs"]
    ]
    assert [one["num_records"] for one in answers] == [9, 9]


def test_nothing_that_was_said_is_written_down(run):
    for path in run.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"Denies" not in content, path
            assert b"Is it there?" not in content, path
    told = json.loads((run / "predictions" / "fed_medlora" / "free" / "mercy.json").read_text())
    assert told["metric"] == "exact_match"
    assert [r["id"] for r in told["records"]] == [str(n) for n in range(2, 11)]
    assert {r["score"] for r in told["records"]} <= {0.0, 1.0}


def test_the_report_shows_answers_and_no_entities(run):
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "exact answers, n = 9" in page
    assert "right choices, n = 9" in page
    assert "F1 of words, n = 9" in page
    scores = page.split('id="scores"')[1].split('id="rounds"')[0]
    assert "Entities" not in scores
    assert "Entities" not in page.split('id="rounds"')[1].split('id="cost"')[0]
    assert "Not measured" not in page.split('id="summary"')[1].split("<h3")[0]


def test_show_shows_what_is_trained_on(material, capsys):
    words = ["show", str(material / "county.jsonl"), "--number", "2", "--model", str(material / "model")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "Is it there?\nDenies cough, b 1.\n\nno<|end|>" in shown
    assert "2 characters in the response" in shown
    assert main([*words[:2], "--number", "13"]) == 2
    assert "instruction has 1 to 12" in capsys.readouterr().err


def test_the_terminal_shows_one_table(run):
    from rich.console import Console

    from fedmedlora.report.tables import table_text

    (table,) = table_text(read_results(run / "results.json"))
    console = Console(width=100)
    with console.capture() as shown:
        console.print(table)
    assert "Answers: share that is right" in shown.get()
    assert "not measured" not in shown.get()
    assert " / " not in shown.get()


def test_a_run_that_was_stopped_goes_on_to_the_same(run, material, tmp_path):
    import shutil

    again = tmp_path / "run"
    shutil.copytree(run, again)
    before = read_results(again / "results.json")
    (again / "results.json").unlink()
    for path in (again / "methods" / "fed_medlora_plus").glob("round-002.*"):
        path.unlink()
    for path in (again / "methods" / "fed_medlora_plus").glob("*abroad*"):
        path.unlink()
    assert main(["run", str(material / "study.toml"), "--out", str(again), "--resume"]) == 0
    after = read_results(again / "results.json")

    def told(results):
        return [[e["answers"] for e in m["evaluations"]] for m in results["methods"]]

    assert told(after) == told(before)


def test_the_adapter_says_what_it_is_for(run, material, tmp_path, capsys):
    manifest = read_manifest(run / "adapters" / "fed_medlora")
    assert manifest["tasks"]["names"] == ["instruction"]
    assert manifest["prompts"] == {}
    assert manifest["loss"] == "lm"
    (tmp_path / "n.txt").write_text("Denies fever.", encoding="utf-8")
    words = ["--adapter", str(run / "adapters" / "fed_medlora"), "--model", str(material / "model")]
    assert main(["extract", str(tmp_path / "n.txt"), *words]) == 2
    assert "trained to answer prompts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {'names = ["instruction"]': 'names = ["ner"]', "max_answer_tokens = 8\n": ""},
            "holds prompts and responses",
        ),
        ({"mercy-test.jsonl": "mercy.jsonl"}, "is also among the training notes of mercy"),
        ({"validation.jsonl": "county-test.jsonl"}, "is also among the test notes of county"),
        ({"[training]\n": '[training]\nloss = "decision"\n'}, "instruction copies nothing"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_written(change, message, material, tmp_path, capsys):
    text = STUDY
    for old, new in change.items():
        text = text.replace(old, new)
    (material / "other.toml").write_text(text, encoding="utf-8")
    assert main(["run", str(material / "other.toml"), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_settings_of_extraction_have_no_effect_and_say_so(material, tmp_path):
    from fedmedlora.study import parse_study

    text = STUDY.replace('names = ["instruction"]', 'names = ["instruction"]\nform = "json"')
    _, notices = parse_study(text.replace("bootstrap = 50", 'decoding = ["free"]'))
    assert any(n.startswith("[tasks] form: no effect, task instruction") for n in notices)
    assert any(n.startswith("[evaluation] decoding: no effect, task instruction") for n in notices)
    _, notices = parse_study(STUDY.replace('names = ["instruction"]\n', ""))
    assert any("[evaluation] max_answer_tokens: no effect" in n for n in notices)
    assert parse_study(STUDY)[1] == ()
