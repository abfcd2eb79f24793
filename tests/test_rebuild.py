"""Results of a study made again of its runs: as they were, or as well as the runs can tell."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from tiny_study import make_study, without_time

from fedmedlora.cli import main
from fedmedlora.many_runs import run_many
from fedmedlora.rebuild import rebuilt
from fedmedlora.results.study_check import validate_study
from fedmedlora.study_public import public_settings

ARMS = """
[[arms]]
name = "half"
title = "half of the sites in a round"
group = "Participation"
x = 0.5
x_label = "share"
change.training.participation = 0.5
change.methods = ["fed_medlora"]
change.sites.lakeside.max_notes = 2
[[arms]]
name = "size-only"
group = "Weights"
change.rules.fed_medlora_plus.tau = 1e9
seeds = [4]
"""


@pytest.fixture(scope="module")
def study(material, tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    methods = ["fed_medlora", "fed_medlora_plus"]
    return make_study(material, folder, methods=methods, head="seeds = [3, 4]\n", after=ARMS)


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "out"
    return out, run_many(study, out)


def bare_copy(out, folder, *, with_settings):
    """The runs as one publishes them: records and counts, no adapters, no predictions, no results of all."""
    kept = [*out.glob("runs/*/*/*.json"), *out.glob("runs/*/*/methods/*/*.json"), out / "study-runs.json"]
    for path in kept:
        (folder / path.relative_to(out)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.relative_to(out))
    if not with_settings:
        told = json.loads((folder / "study-runs.json").read_text())
        del told["settings"]
        (folder / "study-runs.json").write_text(json.dumps(told))
    return folder


def test_a_report_can_be_made_of_the_runs_alone(finished, tmp_path, capsys):
    out, results = finished
    folder = bare_copy(out, tmp_path, with_settings=True)
    assert main(["report", str(folder)]) == 0
    said = capsys.readouterr()
    assert "Fed-MedLoRA+" in said.out
    assert "making study-results.json of the runs in it" in said.err
    told = json.loads((folder / "study-results.json").read_text())
    assert without_time(told) == without_time(json.loads(json.dumps(results)))
    ends = [json.loads(path.read_text())["created_utc"] for path in folder.glob("runs/*/*/results.json")]
    assert told["created_utc"] == max(ends)
    assert (folder / "report.html").exists()
    assert list((folder / "figures").iterdir())


def test_of_runs_whose_study_is_not_told_arms_have_no_titles(finished, study, tmp_path, capsys):
    """As those in docs/results. Everything that was measured is the same, and so is what an arm changes."""
    out, results = finished
    folder = bare_copy(out, tmp_path, with_settings=False)
    found = rebuilt(folder)
    assert [(arm["name"], arm["title"], arm["group"], arm["x"]) for arm in found["arms"]] == [
        ("main", "the study as it stands", "", None), ("half", "half", "Arms", None),
        ("size-only", "size-only", "Arms", None),
    ]  # fmt: skip
    assert [arm["changes"] for arm in found["arms"]] == [
        {},
        {
            "methods": ["fed_medlora"],
            "training": {"participation": 0.5},
            "sites": {"lakeside": {"max_notes": 2}},
        },
        {"rules": {"fed_medlora_plus": {"tau": 1e9}}},
    ]
    for key in ("seeds", "runs", "scores", "means", "comparisons", "calibration", "model", "environment"):
        assert without_time(found[key]) == without_time(results[key]), key
    validate_study(found)
    # with their study file they have titles again, also where the notes are gone
    file = tmp_path / "elsewhere" / "study.toml"
    file.parent.mkdir()
    shutil.copy(study.folder / "study.toml", file)
    assert main(["report", str(folder), "--study", str(file)]) == 0
    told = json.loads((folder / "study-results.json").read_text())
    assert told["arms"] == json.loads(json.dumps(results["arms"]))
    file.write_text(file.read_text().replace("seeds = [3, 4]", "seeds = [3, 4]\nsample_seed = 9"))
    assert main(["report", str(folder), "--study", str(file)]) == 0  # what no arm can change is not compared
    file.write_text(re.sub(r"rounds = \d", "rounds = 7", file.read_text()))
    capsys.readouterr()
    assert main(["report", str(folder), "--study", str(file)]) == 2
    assert "other settings than the study has (training.rounds)" in capsys.readouterr().err
    assert main(["report", str(folder), "--study", str(tmp_path / "none.toml")]) == 2
    assert "give the study file of the runs" in capsys.readouterr().err


def test_a_report_of_runs_that_are_not_finished_or_damaged(finished, tmp_path, capsys):
    out, _ = finished
    (tmp_path / "study-runs.json").write_text("{}")
    assert main(["report", str(tmp_path)]) == 2
    assert "(runs/main) is finished; go on with run --resume" in capsys.readouterr().err
    folder = bare_copy(out, tmp_path / "copy", with_settings=True)
    (folder / "runs/size-only/seed-4/results.json").unlink()
    assert [arm["name"] for arm in rebuilt(folder)["arms"]] == ["main", "half"]  # what is whole is shown
    path = folder / "runs/half/seed-3/results.json"
    whole = json.loads(path.read_text())
    for name in ("../../../secret", "a\\b", "a\0b"):  # a file from elsewhere names no path
        whole["methods"][0]["name"] = name
        path.write_text(json.dumps(whole))
        with pytest.raises(ValueError, match=r"half.seed-3.results\.json: .* is no name of a method"):
            rebuilt(folder)
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"half.seed-3.results\.json: "):
        rebuilt(folder)
    for path in folder.glob("runs/*/*/results.json"):
        path.unlink()
    with pytest.raises(ValueError, match="no arm has all its runs; go on with --resume"):
        rebuilt(folder)


def test_arms_alone_are_not_taken_for_the_study(finished, tmp_path):
    """Their settings differ from the study's, as they should; only a run of "main" is held to it."""
    out, _ = finished
    folder = bare_copy(out, tmp_path, with_settings=True)
    for path in folder.glob("runs/main/*/results.json"):
        path.unlink()
    assert [arm["name"] for arm in rebuilt(folder)["arms"]] == ["half", "size-only"]


def test_what_a_folder_of_runs_tells_of_its_study_is_kept_up(finished, study):
    out, _ = finished
    told = json.loads((out / "study-runs.json").read_text())
    assert told["settings"] == public_settings(study)
    assert told["format"] == "fedmedlora-many-runs"
