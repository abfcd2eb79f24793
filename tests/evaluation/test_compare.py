import json

import numpy as np
import pytest

from fedmedlora.evaluation.compare import compare_methods, holm_over, mean_over_cohorts
from fedmedlora.evaluation.permutation import holm
from fedmedlora.evaluation.seeds import f1_interval_over_seeds

HIT, MISS, EMPTY = (1, 0, 0), (0, 0, 1), (0, 0, 0)


def rng(seed=0):
    return np.random.default_rng(seed)


def cells(*by_seed):
    return np.array(by_seed, dtype=np.int64).reshape(len(by_seed), -1, 3)


GOOD, FAIR, BAD = cells([HIT] * 10), cells([HIT] * 8 + [MISS] * 2), cells([MISS] * 10)


def test_every_pair_in_order_worked_by_hand():
    records = compare_methods({"good": [GOOD], "fair": [FAIR], "bad": [BAD]}, rng=rng())
    assert [(r["a"], r["b"]) for r in records] == [("good", "fair"), ("good", "bad"), ("fair", "bad")]
    # F1: 1, 2 * 8 / (16 + 2) = 8/9, 0
    assert [r["difference"] for r in records] == pytest.approx([1 / 9, 1, 8 / 9])
    # notes that differ: 2, 10, 8; only none and all of them swapped differ as much (for good and fair, one
    # swapped of two gives 9 and 9 found): 2/4, 2/1024, 2/256
    assert [r["p"] for r in records] == [2 / 4, 2 / 1024, 2 / 256]
    # ascending 2/1024 * 3, 2/256 * 2, 2/4
    assert [r["p_holm"] for r in records] == [2 / 4, 6 / 1024, 4 / 256]
    assert [r["significant"] for r in records] == [False, True, True]
    low, high = records[0]["interval"]
    assert 0 <= low < 1 / 9 < high
    assert list(records[0]) == ["a", "b", "difference", "interval", "p", "p_holm", "significant"]
    json.dumps(records)  # plain numbers only


def test_significance_is_of_the_family():
    # 6 notes that differ: p = 2/64 = 0.03 alone, 0.06 as one of two
    six, none = cells([HIT] * 6), cells([MISS] * 6)
    (alone,) = compare_methods({"a": [six], "b": [none]}, rng=rng())
    assert (alone["p"], alone["p_holm"], alone["significant"]) == (2 / 64, 2 / 64, True)
    two = holm_over([alone, alone])
    assert [(r["p_holm"], r["significant"]) for r in two] == [(4 / 64, False)] * 2
    assert alone["p_holm"] == 2 / 64  # copies were changed, not the records


def test_fewer_than_two_methods_have_no_pair():
    assert compare_methods({}, rng=rng()) == []
    assert compare_methods({"only": [GOOD]}, rng=rng()) == []
    assert holm_over([]) == []


def test_undefined_is_none_and_no_evidence():
    nothing = cells([EMPTY, EMPTY])
    (record,) = compare_methods({"a": [nothing], "b": [nothing]}, rng=rng())
    assert (record["difference"], record["interval"], record["p"]) == (None, None, 1.0)
    assert record["significant"] is False
    # one note, and five: a difference, but no interval
    (record,) = compare_methods({"a": [cells([HIT])], "b": [cells([MISS])]}, rng=rng())
    assert (record["difference"], record["interval"], record["p"]) == (1.0, None, 1.0)
    (record,) = compare_methods({"a": [cells([HIT] * 5)], "b": [cells([MISS] * 5)]}, rng=rng())
    assert (record["difference"], record["interval"], record["p"]) == (1.0, None, 2 / 32)


def test_the_settings_arrive():
    methods = {"a": [GOOD], "b": [BAD]}
    (record,) = compare_methods(methods, rng=rng(), num_permutations=9)
    # too few for all 2^10: drawn at random, none as far (for this seed)
    assert record["p"] == 1 / 10
    (record,) = compare_methods({"a": [GOOD], "b": [FAIR]}, rng=rng(), num_resamples=1)
    assert record["interval"][0] == record["interval"][1]
    with pytest.raises(ValueError, match="num_resamples"):
        compare_methods(methods, rng=rng(), num_resamples=0)


def test_methods_that_do_not_fit_are_refused_before_any_pair_is_compared():
    with pytest.raises(ValueError, match="counts must be 0 or more"):
        compare_methods({"only": [-GOOD]}, rng=rng())
    with pytest.raises(ValueError, match="same cohorts"):
        compare_methods({"a": [GOOD], "b": [GOOD], "c": [GOOD, GOOD]}, rng=rng())


def test_equal_methods_are_seldom_called_different():
    # three equal methods, 200 studies: some pair significant in about 5 % of them or fewer, as Holm promises
    generator = rng(4)
    num_wrong = 0
    for _ in range(200):
        made = {}
        for name in "abc":
            tp = generator.binomial(2, 0.7, size=(1, 20))
            made[name] = [np.stack([tp, np.zeros_like(tp), 2 - tp], axis=-1)]
        records = compare_methods(made, rng=generator, num_resamples=1, num_permutations=199)
        assert [r["p_holm"] for r in records] == holm([r["p"] for r in records])
        num_wrong += any(r["significant"] for r in records)
    assert num_wrong / 200 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_mean_over_cohorts_worked_by_hand():
    # seed 1 finds all of x, half of y (2/3); seed 2 half of x and nothing of y
    all_six, half, none = [HIT] * 6, [HIT, MISS] * 3, [MISS] * 6
    by_cohort = {"x": cells(all_six, half), "y": cells(half, none)}
    found = mean_over_cohorts(by_cohort, rng=rng(), num_resamples=100)
    assert list(found) == ["num_cohorts", "f1", "interval", "f1_by_seed", "worst_cohort", "worst_f1"]
    assert found["num_cohorts"] == 2
    assert found["f1_by_seed"] == pytest.approx([5 / 6, 1 / 3])
    assert found["f1"] == pytest.approx(7 / 12)
    assert (found["worst_cohort"], found["worst_f1"]) == ("y", pytest.approx(1 / 3))
    expected = f1_interval_over_seeds(list(by_cohort.values()), rng=rng(), num_resamples=100)
    assert found["interval"] == list(expected)
    json.dumps(found)


def test_mean_over_no_cohort_one_and_equal_ones():
    assert mean_over_cohorts({}, rng=rng()) == {
        "num_cohorts": 0,
        "f1": None,
        "interval": None,
        "f1_by_seed": [],
        "worst_cohort": None,
        "worst_f1": None,
    }
    assert mean_over_cohorts({"x": FAIR}, rng=None)["interval"] is None
    found = mean_over_cohorts({"y": FAIR, "x": FAIR}, rng=rng())
    assert (found["worst_cohort"], found["f1"]) == ("y", pytest.approx(8 / 9))


def test_a_cohort_without_f1_leaves_the_mean_undefined():
    found = mean_over_cohorts({"x": cells([EMPTY, EMPTY]), "y": FAIR[:, :2]}, rng=rng())
    assert (found["f1"], found["interval"], found["f1_by_seed"]) == (None, None, [None])
    assert (found["worst_cohort"], found["worst_f1"]) == ("y", 1.0)


def test_cohorts_with_other_seeds_are_refused():
    with pytest.raises(ValueError, match="same seeds"):
        mean_over_cohorts({"x": FAIR, "y": FAIR.repeat(2, axis=0)}, rng=None)
