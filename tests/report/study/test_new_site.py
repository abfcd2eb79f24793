"""The curve of a new site, on the results of a real study that adapts it in an arm of its own."""

import json
from copy import deepcopy
from pathlib import Path

import pytest

from fedmedlora.report.study.new_site import new_site_part
from fedmedlora.report.study.pieces import StudyFigure
from fedmedlora.report.study.view import view_of

RESULTS = Path(__file__).parents[3] / "docs" / "results" / "cpu" / "study-results.json"


@pytest.fixture(scope="module")
def results():
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def figures_of(results):
    part = new_site_part(view_of(results))
    return [] if part is None else [one for one in part.pieces if isinstance(one, StudyFigure)]


def test_the_arm_that_adapts_the_most_is_drawn(results):
    figure = figures_of(results)[0]
    assert figure.ident == "new-site-lct-entities"
    assert figure.arms == ("new-site",)
    assert [row[0].value for row in figure.table.rows] == [0, 1, 5]
    at_five = {
        (s["method"], s["criterion"]): s["f1"]
        for s in results["scores"]
        if s["arm"] == "new-site" and s["kind"] == "entities" and s["cohort"] == "lct"
    }
    shown = [cell.value for cell in figure.table.rows[2][1:]]
    assert shown == [
        at_five[f"new_site:lct:5:{start}", criterion]
        for start in ("zero_shot", "fed_medlora")
        for criterion in ("strict", "lenient")
    ]


def test_the_study_itself_goes_before_an_arm_that_does_no_more(results):
    less = deepcopy(results)
    less["arms"] = [arm for arm in less["arms"] if arm["name"] != "new-site"]
    for key in ("runs", "scores", "means", "comparisons", "calibration"):
        less[key] = [one for one in less[key] if one["arm"] != "new-site"]
    figure = figures_of(less)[0]
    assert figure.arms == ("main",)
    assert [row[0].value for row in figure.table.rows] == [0]
