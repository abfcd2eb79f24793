import json
import math
import re
from pathlib import Path

import pytest

from fedmedlora.report.results import (
    kept,
    read_results,
    read_study_results,
    write_results,
    write_study_results,
)
from fedmedlora.results.check import validate
from fedmedlora.results.nodes import rows
from fedmedlora.results.schema import SCHEMA, SCORE_KINDS, reference_page

PAGE = Path(__file__).parents[2] / "docs" / "results-schema.md"
STRICT = "methods[1].evaluations[0].scores.entities.strict"


def walk(results, path):
    for key in path.replace("[", ".[").split("."):
        results = results[int(key[1:-1])] if key.startswith("[") else results[key]
    return results


def put(results, path, value):
    above, _, key = path.rpartition(".")
    (walk(results, above) if above else results)[key] = value


def test_a_whole_run_is_valid(results):
    validate(results)


def test_the_smallest_results_are_valid(results):
    validate({**results, "cohorts": [], "methods": [], "study": {}, "command": []})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{STRICT}.tp", -1),
        (f"{STRICT}.tp", 1.0),
        (f"{STRICT}.tp", True),
        (f"{STRICT}.fp", 10**30),
        (f"{STRICT}.f1", math.nan),
        (f"{STRICT}.f1", None),
        (f"{STRICT}.recall", 0.123),
        (f"{STRICT}.interval", [0.5]),
        (f"{STRICT}.interval", [0.9, 0.1]),
        (f"{STRICT}.per_type", []),
        ("methods[1].evaluations[0].cohort", "elsewhere"),
        ("methods[1].evaluations[0].decoding", "beam"),
        ("methods[1].evaluations[0].num_unparsed", 301),
        ("methods[1].evaluations[0].scores.links_gold", 3),
        ("methods[2].rounds[1].round_num", 1),
        ("methods[2].rounds[0].aggregate_seconds", math.inf),
        ("methods[2].rounds[0].sites", None),
        ("methods[2].rounds[0].figures", []),
        ("methods[2].rounds[0].figures.refactoring_error", "much"),
        ("methods[2].rounds[0].weights", {"lakeside": 0.5}),
        ("cohorts[3].kind", "hospital"),
        ("cohorts[3].synthetic", 1),
        ("environment.seed", "7"),
        ("study", {"seed": {1, 2}}),
        ("format", "other"),
        ("version", 2),
        ("command", "fedmedlora run"),
    ],
)
def test_the_error_names_the_path_of_the_wrong_key(results, path, value):
    put(results, path, value)
    with pytest.raises(ValueError, match=f"^{re.escape(path)}"):
        validate(results)


def test_counts_of_types_must_add_up(results):
    strict = walk(results, STRICT)
    strict["per_type"]["problem"] = {"tp": 0, "fp": 0, "fn": 0, "precision": None, "recall": None, "f1": None}
    with pytest.raises(ValueError, match="the sum over per_type"):
        validate(results)


def test_unknown_missing_and_doubled(results):
    walk(results, "methods[0]")["labell"] = "x"
    with pytest.raises(ValueError, match=r'^methods\[0\]\.labell: unknown key; did you mean "label"\?'):
        validate(results)
    del walk(results, "methods[0]")["labell"]
    label = walk(results, "methods[0]").pop("label")
    with pytest.raises(ValueError, match=r"^methods\[0\]\.label: missing"):
        validate(results)
    results["methods"][0]["label"] = label
    results["cohorts"][1]["name"] = "lakeside"
    with pytest.raises(ValueError, match=r"^cohorts\[1\]\.name: 'lakeside'.*once"):
        validate(results)


def test_a_weight_belongs_to_a_site_of_the_round(results):
    put(results, "methods[2].rounds[0].weights", {"nowhere": 1.0})
    with pytest.raises(ValueError, match=r"rounds\[0\]\.weights\.nowhere"):
        validate(results)


def test_a_score_may_be_not_measured(results):
    put(results, "methods[1].evaluations[0].scores.links_gold", None)
    validate(results)


def test_written_and_read_back(results, tmp_path):
    path = tmp_path / "results.json"
    results["name"] = "Kraków \ud800 <b>"
    write_results(path, results)
    assert read_results(path) == results
    assert [found.name for found in tmp_path.iterdir()] == ["results.json"]


def test_a_study_is_written_and_read_back(made_study, tmp_path):
    path = tmp_path / "study-results.json"
    write_study_results(path, made_study)
    assert read_study_results(path) == made_study
    with pytest.raises(ValueError, match=r"study-results\.json: format: .*is this a results\.json"):
        read_results(path)
    with pytest.raises(ValueError, match=r"^version"):
        write_study_results(path, {**made_study, "version": 3})
    assert read_study_results(path) == made_study
    with pytest.raises(ValueError, match=r"give the study-results\.json of a study"):
        read_study_results(tmp_path / "none.json")


def test_what_was_told_before_is_kept_where_nothing_else_is_new(results, tmp_path):
    path = tmp_path / "results.json"
    assert kept(path, results) == results  # there is none
    write_results(path, results)
    later = {**results, "created_utc": "2027-01-01T00:00:00Z", "command": ["another"]}
    later["environment"] = {**results["environment"], "num_cores": 64}
    assert kept(path, later) == results
    assert kept(path, {**later, "name": "Other"}) == {**later, "name": "Other"}
    assert kept(path, {**later, "more": None}) == {**later, "more": None}  # a key that is null is a key too
    path.write_text(json.dumps({**results, "old": 1}))
    assert kept(path, later) == later
    for damaged in ("", "[]", "{", "\xff", "[" * 100_000):
        path.write_text(damaged, encoding="latin-1")
        assert kept(path, later) == later


def test_invalid_results_leave_the_old_file(results, tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(ValueError, match=r"^version"):
        write_results(path, {**results, "version": 3})
    assert path.read_text() == "old"


def test_a_folder_that_is_not_there(results, tmp_path):
    with pytest.raises(ValueError, match=r"results\.json: cannot be written"):
        write_results(tmp_path / "none" / "results.json", results)


def test_a_full_disk_leaves_the_old_file(results, tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    path.write_text("old")

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ValueError, match="No space left"):
        write_results(path, results)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: not JSON"),
        (b"[]", "results: \\[\\] is there; allowed: a table"),
        (b"{}", "format: None is there"),
        (b'{"a":\n NaN}', "NaN is no JSON number"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b"[" * 200_000, "nested too deeply"),
    ],
)
def test_files_that_are_no_results(tmp_path, content, message):
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_results(path)
    assert str(path) in str(error.value)
    with pytest.raises(ValueError, match="cannot be read"):
        read_results(tmp_path / "none.json")


def test_the_page_says_what_the_validator_checks():
    assert PAGE.read_text(encoding="utf-8").endswith(reference_page())


def test_every_key_is_on_the_page(results):
    """Independent of the generator: every key of a real document, by its own name."""
    page = PAGE.read_text(encoding="utf-8")

    def keys(found):
        if isinstance(found, dict):
            for key, value in found.items():
                yield key
                yield from keys(value)
        elif isinstance(found, list):
            for item in found:
                yield from keys(item)

    fixed = {k: v for k, v in results.items() if k != "study"}
    names = set(keys(json.loads(json.dumps(fixed))))
    free = {"lakeside", "northgate", "riverbend", "crossing", "discontinuous", "nested too deep"}
    types = {
        t for s in walk(results, "methods[0].evaluations[0].scores").values() for t in s["strict"]["per_type"]
    }
    words = set(page.replace("`", " ").replace(".", " ").replace("[]", " ").split())
    assert names - free - types <= words
    assert set(SCORE_KINDS) <= words
    assert len({row[0] for row in rows(SCHEMA)}) == len(rows(SCHEMA))
