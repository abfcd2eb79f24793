"""Studies of many runs: arms and seeds, work done once, stops at any moment, what they say together."""

from __future__ import annotations

import csv
import json

import pytest
from tiny_study import make_study, without_time

from fedmedlora import many_runs as many_runs_module
from fedmedlora.cli import main
from fedmedlora.corpora.jsonl import read_notes
from fedmedlora.experiment import run_study
from fedmedlora.many_runs import run_many
from fedmedlora.progress import Silent
from fedmedlora.report.study_files import write_figures_and_tables
from fedmedlora.results.study_check import validate_study
from fedmedlora.study_runs import runs_of

METHODS = ["zero_shot", "single_site", "fed_medlora", "fed_medlora_plus"]
SEEDS = "seeds = [3, 4]\n"
ARMS = """
[[arms]]
name = "half"
title = "half of the sites in a round"
group = "Participation"
x = 0.5
x_label = "share"
change.training.participation = 0.5
change.methods = ["fed_medlora"]
[[arms]]
name = "size-only"
group = "Weights"
change.rules.fed_medlora_plus.tau = 1e9
"""


@pytest.fixture(scope="module")
def study(material, tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    return make_study(material, folder, methods=METHODS, head=SEEDS, after=ARMS)


class Counting(Silent):
    """Counts the stages that trained and read."""

    def __init__(self):
        self.labels: list[str] = []

    def stage(self, label, cost):
        self.labels.append(label)
        return super().stage(label, cost)

    def num(self, word: str) -> int:
        return sum(word in label for label in self.labels)


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "out"
    progress = Counting()
    return out, run_many(study, out, progress=progress), progress


def test_every_arm_under_every_seed(finished, study):
    out, results, _ = finished
    assert [(run["arm"], run["seed"]) for run in results["runs"]] == [
        ("main", 3), ("main", 4), ("half", 3), ("half", 4), ("size-only", 3), ("size-only", 4),
    ]  # fmt: skip
    assert [(arm["name"], arm["x"], arm["num_sites"]) for arm in results["arms"]] == [
        ("main", None, 2), ("half", 0.5, 2), ("size-only", None, 2),
    ]  # fmt: skip
    assert all((out / run["folder"] / "results.json").exists() for run in results["runs"])
    assert not (out / "shared").exists()
    json.dumps(results, allow_nan=False)


def test_what_runs_have_in_common_is_done_once(finished):
    """Two seeds; in each, both sites train round 1 once for all methods and arms."""
    out, results, progress = finished
    assert progress.num("round 1/2: lakeside trains") == 2
    assert progress.num("round 1/2: northgate trains") == 2
    halves = [json.loads((out / r["folder"] / "results.json").read_text()) for r in results["runs"][2:4]]
    drawn = sum("lakeside" in [s["site"] for s in h["methods"][0]["rounds"][1]["sites"]] for h in halves)
    # Round 2: alone, Fed-MedLoRA, Fed-MedLoRA+, size-only (to rounding the adapter of Fed-MedLoRA: the same
    # on some CPUs), and half of the sites where lakeside is that half.
    assert 2 * 3 <= progress.num("round 2/2: lakeside trains") <= 2 * 4 + drawn
    # Fed-MedLoRA+ validates two rounds, size-only its second: in the first, the adapters are the same.
    assert progress.num("validation losses of the sites' adapters") == 2 * 3
    # Nothing is trained for zero-shot, which no seed changes: three cohorts are read once.
    assert progress.num("Zero-shot: reads") == 3


def test_a_run_of_the_study_is_the_run_that_its_own_file_would_give(finished, study, tmp_path):
    """Shared work changes nothing: an arm alone in an empty folder gives the same numbers."""
    out, _, _ = finished
    run = next(r for r in runs_of(study) if r.label == "size-only, seed 4")
    alone = run_study(run.study, tmp_path / "alone")
    there = json.loads((out / run.folder / "results.json").read_text())
    assert without_time(json.loads(json.dumps(alone))) == without_time(there)
    files = [
        sorted(str(p.relative_to(f)) for p in (f / "predictions").rglob("*") if p.is_file())
        for f in (tmp_path / "alone", out / run.folder)
    ]
    assert files[0] == files[1] != []
    for name in files[0]:
        ours, theirs = (f / name for f in (tmp_path / "alone", out / run.folder))
        if name.endswith(".jsonl"):
            assert read_notes(ours) == read_notes(theirs)


def test_an_arm_under_some_of_the_seeds(material, tmp_path):
    one = ARMS.replace('name = "half"', 'name = "half"\nseeds = [4]')
    study = make_study(
        material, tmp_path / "study", methods=["fed_medlora"], rounds=1, head=SEEDS,
        after=one[: one.index('[[arms]]\nname = "size')],
    )  # fmt: skip
    assert [run.label for run in runs_of(study)] == ["main, seed 3", "main, seed 4", "half, seed 4"]
    results = run_many(study, tmp_path / "out")
    validate_study(results)
    by_seed = {(s["arm"], len(s["f1_by_seed"])) for s in (*results["scores"], *results["means"])}
    assert by_seed == {("main", 2), ("half", 1)}
    write_figures_and_tables(results, tmp_path / "out")
    text = (tmp_path / "out/tables/arms.csv").read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["Arm"], row["Seeds"]) for row in rows] == [("main", "2"), ("half", "1")]
    group = (tmp_path / "out/tables/arms-participation-entities.csv").read_text(encoding="utf-8-sig")
    told = [(row["Arm"].rpartition(", ")[2], row["Seeds"]) for row in csv.DictReader(group.splitlines())]
    assert [seeds for _, seeds in told] == ["2", "1", "1"]
    assert told[1] == ("under seed 4 alone", "1")
    short = json.loads(json.dumps(results))
    next(s for s in short["scores"] if s["arm"] == "half")["f1_by_seed"].append(0.0)
    with pytest.raises(ValueError, match=r"f1_by_seed: .*1 values, one per seed"):
        validate_study(short)
    for wrong in ("[5]", "[4, 4]"):
        with pytest.raises(ValueError, match=r"\[\[arms\]\] half seeds: . is to be one of the study's"):
            runs_of(
                make_study(
                    material, tmp_path / "wrong", methods=["fed_medlora"], head=SEEDS,
                    after=one.replace("seeds = [4]", f"seeds = {wrong}"),
                )
            )  # fmt: skip


def test_means_and_intervals_are_of_the_runs_scores(finished):
    _, results, _ = finished
    by_run = {(run["arm"], run["seed"]): run for run in results["runs"]}
    checked = 0
    for score in results["scores"]:
        f1s = []
        for seed in (3, 4):
            method = next(m for m in by_run[score["arm"], seed]["methods"] if m["name"] == score["method"])
            evaluation = next(e for e in method["evaluations"] if e["cohort"] == score["cohort"])
            f1s.append(evaluation["scores"][score["kind"]][score["criterion"]]["f1"])
        assert score["f1_by_seed"] == pytest.approx(f1s)
        if None not in f1s:
            assert score["f1"] == pytest.approx(sum(f1s) / 2)
            checked += 1
    assert checked > 20
    over = {one["over"] for one in results["means"]}
    assert over == {"site", "external"}
    pairs = {(c["a"], c["b"]) for c in results["comparisons"] if c["arm"] == "main"}
    assert ("fed_medlora", "fed_medlora_plus") in pairs
    assert len(pairs) == 10  # of five methods
    assert {c["method"] for c in results["calibration"] if c["arm"] == "main"} == {
        "zero_shot", "single_site:lakeside", "single_site:northgate", "fed_medlora", "fed_medlora_plus",
    }  # fmt: skip


@pytest.mark.parametrize("stop_at", [1, 4, 9, 17, 30])
def test_a_study_that_is_killed_goes_on(study, finished, tmp_path, stop_at):
    _, results, _ = finished

    class Killed(Silent):
        num = 0

        def stage(self, label, cost):
            self.num += 1
            if self.num == stop_at:
                raise KeyboardInterrupt
            return super().stage(label, cost)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_many(study, out, progress=Killed())
    with pytest.raises(ValueError, match="holds a study already; go on with it"):
        run_many(study, out)
    assert without_time(run_many(study, out, resume=True)) == without_time(results)


def test_some_arms_first_and_the_rest_later(study, finished, tmp_path):
    _, results, _ = finished
    out = tmp_path / "out"
    some = run_many(study, out, only=["half"])
    assert [arm["name"] for arm in some["arms"]] == ["main", "half"]
    assert (out / "shared").exists()
    progress = Counting()
    whole = run_many(study, out, resume=True, progress=progress)
    assert without_time(whole) == without_time(results)
    assert progress.num("runs") == 0
    # A finished study is put together again without anything being trained or read.
    again = Counting()
    run_many(study, out, resume=True, progress=again)
    assert again.num("trains") == again.num("reads") == 0


def test_common_work_that_is_half_removed_is_not_used_again(tmp_path, monkeypatch):
    """An evaluation without its counts of each note would give no intervals, were an arm added later."""
    record = tmp_path / "shared" / "evaluations" / "key" / "record.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")

    def killed(path, ignore_errors):
        if path.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(many_runs_module.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        many_runs_module._remove_shared(tmp_path)
    assert not (tmp_path / "shared").exists()
    monkeypatch.undo()
    many_runs_module._remove_shared(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_of_other_settings_is_not_mixed_in(study, finished, material, tmp_path):
    out, _, _ = finished
    other = make_study(
        material, tmp_path, methods=METHODS, head=SEEDS, after=ARMS, training="weight_decay = 0.5\n"
    )
    with pytest.raises(
        ValueError,
        match=r"main, seed 3\) in it is finished and was made with other settings \(training.weight_decay\);",
    ):
        run_many(other, out, resume=True)


def test_a_finished_run_of_an_arm_that_is_not_asked_for_is_not_mixed_in_either(finished, material, tmp_path):
    """The results hold every finished arm, whichever this call runs."""
    out, _, _ = finished
    changed = ARMS.replace("tau = 1e9", "tau = 1e8")
    other = make_study(material, tmp_path, methods=METHODS, head=SEEDS, after=changed)
    with pytest.raises(ValueError, match=r"size-only, seed 3\) .* made with other settings"):
        run_many(other, out, resume=True, only=["half"])


def test_a_finished_run_of_other_notes_is_not_mixed_in(finished, material, tmp_path):
    """Notes are compared one by one over seeds and methods, so they must be the same ones."""
    out, _, _ = finished
    other = make_study(material, tmp_path, methods=METHODS, head=SEEDS, after=ARMS)
    run_many(other, out, resume=True)
    file = tmp_path / "stonebridge.test.jsonl"
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(ValueError, match=r"main, seed 3\) in it is finished and was made with other notes"):
        run_many(other, out, resume=True)


def test_a_folder_with_something_else_is_left_alone(study, tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="not a study of many runs"):
        run_many(study, tmp_path)
    with pytest.raises(ValueError, match="not a study of many runs"):
        run_many(study, tmp_path / "letter.txt")
    assert many_runs_module.SHARED


WRONG = {
    "unknown arm": ("change.trainning.rounds = 3", "unknown key; did you mean training"),
    "unknown key": ("change.training.round = 3", "did you mean rounds"),
    "unknown site": ("change.sites.lakside.max_notes = 1", "no 'lakside' among them; did you mean lakeside"),
    "nothing": ("change.training.rounds = 2", "change: changes nothing"),
    "the seed": ("change.seed = 5", "seed is the same for all arms"),
    "a file": ('change.sites.lakeside.train = "nowhere.jsonl"', "nowhere.jsonl is not there"),
    "range": ("change.training.participation = 2.0", "is out of range"),
}


@pytest.mark.parametrize("case", WRONG)
def test_arms_that_cannot_be_are_refused(case, material, tmp_path):
    change, message = WRONG[case]
    arm = f'\n[[arms]]\nname = "other"\n{change}\n'
    study = make_study(material, tmp_path, methods=METHODS, after=arm)
    with pytest.raises(ValueError, match=r"\[\[arms\]\] other") as caught:
        runs_of(study)
    assert message in str(caught.value)


def test_names_of_arms(material, tmp_path):
    arms = '\n[[arms]]\nname = "{}"\nchange.training.rounds = 3\n'
    for names, message in (
        (("a", "A"), "two are named 'a'"),
        (("main",), "two are named 'main'"),
        (("a/b",), "a/b"),
    ):
        with pytest.raises(ValueError, match=message):
            make_study(material, tmp_path, methods=METHODS, after="".join(map(arms.format, names)))
    study = make_study(material, tmp_path, methods=METHODS, after=arms.format("a"))
    with pytest.raises(ValueError, match=r"arm 'b': not known; the study has main, a"):
        runs_of(study, ["b"])
    with pytest.raises(
        ValueError, match=r"arm 'mains': not known; did you mean main\?; the study has main, a"
    ):
        runs_of(study, ["mains"])


def test_the_whole_way_on_the_command_line(study, finished, tmp_path, capsys):
    """The report, its figures and tables, from the same results; and again with `report`."""
    from fedmedlora.cli_run import _finish_many
    from fedmedlora.report.results import read_study_results

    _, results, _ = finished
    _finish_many(results, tmp_path, as_json=False)
    assert "Fed-MedLoRA+" in capsys.readouterr().out
    assert without_time(read_study_results(tmp_path / "study-results.json")) == without_time(results)
    page = (tmp_path / "report.html").read_bytes()
    figures = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert figures
    assert list((tmp_path / "tables").iterdir())
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_bytes() == page
    # gone on with although it was finished: when and by which command stays
    told = (tmp_path / "study-results.json").read_bytes()
    again = {**results, "created_utc": "2099-01-01T00:00:00Z", "command": ["fedmedlora", "run", "--resume"]}
    _finish_many(again, tmp_path, as_json=False)
    assert (tmp_path / "study-results.json").read_bytes() == told
    assert (tmp_path / "report.html").read_bytes() == page
