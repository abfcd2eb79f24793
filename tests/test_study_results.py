"""What many runs say together, from counts made by hand: which cohorts a mean and a comparison are over."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from fedmedlora.study_results import Measured, _comparisons, _means, _measured

HIT, MISS, SPURIOUS, EMPTY = (1, 0, 0), (0, 0, 1), (0, 1, 0), (0, 0, 0)
RUN = SimpleNamespace(folder="runs/main/seed-1")
STUDY = SimpleNamespace(seed=1, evaluation=SimpleNamespace(bootstrap=20))


def measured(method, cohort, note, num_notes=6):
    """One seed, every note with the same counts of entities."""
    cells = np.array([[note] * num_notes], dtype=np.int64)
    return Measured(method, cohort, "constrained", (), {("entities", "strict"): cells}, ())


def test_on_several_new_sites_methods_are_compared_on_each():
    found = [
        measured("zero_shot", "east", MISS),
        measured("zero_shot", "west", MISS),
        measured("fed_medlora", "east", HIT),
        measured("fed_medlora", "west", MISS),
        measured("new_site:west:5:zero_shot", "west", MISS),
        measured("new_site:west:5:fed_medlora", "west", HIT),
    ]
    told = list(_comparisons(found, {"east": "new-site", "west": "new-site"}, STUDY))
    assert [(c["over"], c["a"], c["b"], c["difference"]) for c in told] == [
        ("cohort:east", "zero_shot", "fed_medlora", -1.0),
        ("cohort:west", "zero_shot", "fed_medlora", 0.0),
        ("cohort:west", "new_site:west:5:zero_shot", "new_site:west:5:fed_medlora", -1.0),
    ]


def test_a_cohort_without_gold_is_in_the_mean_of_no_method():
    """One false positive there must not give a method another mean, over other cohorts, than the rest."""
    found = [
        measured("careful", "x", HIT),
        measured("careful", "y", EMPTY),
        measured("rash", "x", MISS),
        measured("rash", "y", SPURIOUS),
    ]
    kinds = {"x": "site", "y": "site"}
    means = {one["method"]: (one["num_cohorts"], one["f1"]) for one in _means(found, kinds, STUDY)}
    assert means == {"careful": (1, 1.0), "rash": (1, 0.0)}
    (told,) = _comparisons(found, kinds, STUDY)
    assert (told["a"], told["b"], told["difference"]) == ("careful", "rash", 1.0)


def test_a_method_whose_counts_are_gone_is_not_left_out_in_silence(tmp_path):
    evaluation = {"cohort": "x", "decoding": "constrained", "scores": {}}
    results = {"methods": [{"name": "zero_shot", "evaluations": [evaluation]}]}
    path = tmp_path / RUN.folder / "methods" / "zero_shot" / "x-constrained.details.json"
    with pytest.raises(ValueError, match=r"x-constrained\.details\.json: is not there, so zero_shot on x"):
        _measured([(RUN, results)], tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"per_note": {"entities": {"strict": [HIT], "lenient": [HIT]}}}))
    (found,) = _measured([(RUN, results)], tmp_path)
    assert found.cells["entities", "strict"].tolist() == [[list(HIT)]]
