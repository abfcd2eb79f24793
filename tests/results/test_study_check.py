import json
import re
from pathlib import Path

import pytest
from made_up_study import make_study

from fedmedlora.results.nodes import Many, Table, Value, rows, tables_page
from fedmedlora.results.study_check import validate_study
from fedmedlora.results.study_schema import SCHEMA, reference_page

PAGE = Path(__file__).parents[2] / "docs" / "study-results.md"
_FEW = ("zero_shot", "centralized", "fed_medlora")
_MADE = json.dumps(make_study(seeds=(3, 5), only=_FEW))


@pytest.fixture
def study():
    return json.loads(_MADE)


def walk(results, path):
    for key in re.findall(r"[^.\[\]]+", path):
        results = results[int(key) if isinstance(results, list) else key]
    return results


def put(results, path, value):
    *_, key = re.findall(r"[^.\[\]]+", path)
    above = path.rpartition("[" if path.endswith("]") else ".")[0]
    held = walk(results, above)
    held[int(key) if isinstance(held, list) else key] = value


def test_a_whole_study_is_valid(study):
    validate_study(study)


def test_the_smallest_study_is_valid(study):
    empty = {key: [] for key in ("runs", "scores", "means", "comparisons", "calibration")}
    validate_study({**study, **empty, "arms": study["arms"][:1], "seeds": [0], "command": [], "study": {}})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", "fedmedlora-results"),
        ("version", 2),
        ("seeds", []),
        ("seeds[1]", 3),
        ("seeds[1]", -1),
        ("arms", []),
        ("arms[1].name", "main"),
        ("arms[1].x", "0.2"),
        ("arms[1].x", float("nan")),
        ("arms[1].cohorts[1].name", "lakeside"),
        ("environment.seed", 1),
        ("runs[0].arm", "nowhere"),
        ("runs[0].seed", 4),
        ("runs[1].seed", 3),
        ("runs[0].methods[1].name", "zero_shot"),
        ("runs[0].methods[2].rounds[1].round_num", 1),
        ("runs[0].methods[2].evaluations[0].cohort", "elsewhere"),
        ("runs[0].methods[2].evaluations[0].scores.entities.strict.precision", 0.001),
        ("runs[0].methods[0].usage", {}),
        ("runs[0].methods[0].trained_parameters", -1),
        ("scores[0].arm", "nowhere"),
        ("scores[0].method", "single_site:nowhere"),
        ("scores[0].cohort", "nowhere"),
        ("scores[0].kind", "spans"),
        ("scores[0].f1", None),
        ("scores[0].f1", 0.987),
        ("scores[0].f1_by_seed", [0.5]),
        ("scores[0].interval", [0.9, 0.1]),
        ("scores[1].criterion", "strict"),
        ("means[0].over", "cohort:lakeside"),
        ("means[0].worst_cohort", None),
        ("means[0].worst_cohort", "nowhere"),
        ("comparisons[0].over", "cohort:nowhere"),
        ("comparisons[0].a", "nobody"),
        ("comparisons[0].b", "fed_medlora"),
        ("comparisons[0].difference", 1.5),
        ("comparisons[0].interval", [0.2, 0.1]),
        ("comparisons[0].p_holm", None),
        ("comparisons[0].p_holm", 0.0),
        ("calibration[0].num_predictions", 1),
        ("calibration[0].bins[3].low", 0.1),
        ("calibration[0].bins[3].share_right", None),
        ("calibration[0].bins[0].share_right", 0.5),
        ("calibration[0].curve[0].recall", 1.5),
        ("calibration[0].cohort", "nowhere"),
    ],
)
def test_the_error_names_the_path_of_the_wrong_key(study, path, value):
    put(study, path, value)
    with pytest.raises(ValueError, match=r"is there; allowed|unknown key|missing") as error:
        validate_study(study)
    # what occurs twice is told by its list and place; the key that is told is the first of the unique ones
    told = str(error.value).split(":")[0]
    assert re.split(r"[.\[]", told)[0] == re.split(r"[.\[]", path)[0]
    if "second" not in str(error.value) and "seeds" not in path:
        assert told.startswith(path)


def test_a_mean_over_seeds_needs_every_seed(study):
    put(study, "scores[0].f1_by_seed", [None, 0.25])
    put(study, "scores[0].f1", 0.25)
    with pytest.raises(ValueError, match=r"^scores\[0\]\.f1: .*null where one of them is"):
        validate_study(study)
    put(study, "scores[0].f1", None)
    with pytest.raises(ValueError, match=r"^scores\[0\]\.interval: .*null where its value is null"):
        validate_study(study)
    put(study, "scores[0].interval", None)
    validate_study(study)
    page = PAGE.read_text(encoding="utf-8")
    assert "`f1` is the mean of `f1_by_seed`, and null where one of them is" in page
    assert "undefined for some seed" in page
    assert "undefined for every seed" not in page


def test_nothing_is_significant_that_was_not_tested(study):
    comparison = study["comparisons"][0]
    comparison.update(p=None, p_holm=None, significant=False)
    validate_study(study)
    comparison["significant"] = True
    with pytest.raises(ValueError, match=r"^comparisons\[0\]\.significant"):
        validate_study(study)


def test_what_may_be_missing(study):
    method = study["runs"][0]["methods"][0]
    for key in ("adaptation", "usage", "trained_parameters"):
        del method[key]
    validate_study(study)
    del method["label"]
    with pytest.raises(ValueError, match=r"^runs\[0\]\.methods\[0\]\.label: missing"):
        validate_study(study)


@pytest.mark.parametrize("found", [[], None, "study"])
def test_something_else(found):
    with pytest.raises(ValueError, match=r"^results: "):
        validate_study(found)


def test_the_page_says_what_the_validator_checks():
    assert PAGE.read_text(encoding="utf-8").endswith(reference_page())


def test_every_key_is_on_the_page(study):
    """Independent of the generator: every key of a real document outside a run's record."""
    page = PAGE.read_text(encoding="utf-8")
    words = set(page.replace("`", " ").replace(".", " ").replace("[]", " ").split())
    tables = [study, study["environment"], study["arms"][0], study["runs"][0]]
    tables += [study[key][0] for key in ("scores", "means", "comparisons", "calibration")]
    tables += [study["calibration"][0]["bins"][0], study["calibration"][0]["curve"][0]]
    assert {key for table in tables for key in table} <= words
    assert len({row[0] for row in rows(SCHEMA)}) == len(rows(SCHEMA))


def test_a_key_that_may_be_missing_says_so():
    table = Table(
        {"a": Value("count", "A", null="no A"), "b": Value("count", "B")}, "x", "x", optional=("a",)
    )
    assert "| `a` | whole number, at least 0 |  | no A; may be missing | A |" in tables_page((table,))
    with pytest.raises(AssertionError):
        Table({"a": Value("count", "A")}, "x", optional=("a",))


def test_a_table_of_another_page_is_linked():
    other = Table({"a": Value("count", "A")}, "others", "other", page="other.md#other")
    found = rows(Table({"o": Many(other, "many")}, "x"))
    assert found[1] == ("o[]", "[other](other.md#other)", "", "", "others")
