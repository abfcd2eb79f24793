"""What many runs say together, from counts made by hand: which cohorts a mean and a comparison are over."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from fedmedlora.study_results import Measured, _comparisons, _means

HIT, MISS, SPURIOUS, EMPTY = (1, 0, 0), (0, 0, 1), (0, 1, 0), (0, 0, 0)
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
