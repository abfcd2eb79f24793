"""Rules that withstand bad sites: numbers worked by hand, how many they withstand, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_rounds import FIVE, A, B, of_numbers, pair, plain, product, updates

from fedmedlora.aggregation.coordinates import middle_mean
from fedmedlora.aggregation.geometric_median import median_weights
from fedmedlora.aggregation.product_mean import all_alike, product_mean
from fedmedlora.aggregation.products import Points, points
from fedmedlora.aggregation.rule import combine, load_rule
from fedmedlora.exchange.adapter import Adapter

ROBUST = ("norm_clipping", "krum", "multi_krum", "geometric_median", "trimmed_mean", "coordinate_median")


def exact(vectors):
    """Points that are known as they are."""
    return Points(vectors @ vectors.T, np.zeros(len(vectors)))


# --- Krum ------------------------------------------------------------------------------------------------

# f = 1 of five, so two neighbours. Squares: a 1 + 4, b 1 + 1, c 1 + 4, d 4 + 9, e 96^2 + 98^2.


def test_krum_by_hand():
    found, weights, figures = of_numbers("krum", FIVE)
    assert found == 1.0
    assert weights == {"a": 0.0, "b": 1.0, "c": 0.0, "d": 0.0, "e": 0.0}
    assert figures == {"num_bad": 1.0, "refactoring_error": 0.0}


def test_krum_takes_an_adapter_as_it_is():
    sites = [pair([[1], [n]], [[n, 2]]) for n in (1, 2, 3, 4, 50)]
    now = pair([[0], [0]], [[1, 0]])
    found = combine(load_rule("krum"), now, updates(now, sites))
    assert found.adapter in sites[:4]
    assert sum(found.weights.values()) == 1.0


def test_of_equal_scores_the_first_by_name_is_taken():
    # f = 0 of three: one neighbour each, and a and b have each other, as b and c.
    now = plain(0.0)
    sent = updates(now, [plain(n) for n in (5, 4, 3)])
    assert load_rule("krum", {"num_bad": 0}).weights(sent[::-1]) == {"a": 1.0, "b": 0.0, "c": 0.0}


def test_multi_krum_by_hand():
    # n - f = 4 are kept: all but e.
    found, weights, _ = of_numbers("multi_krum", FIVE)
    assert found == 7 / 4
    assert weights == {"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25, "e": 0.0}
    # Two: b, and of a and c, which score the same, a.
    assert of_numbers("multi_krum", FIVE, settings={"num_kept": 2})[0] == 0.5
    assert of_numbers("multi_krum", FIVE, settings={"num_kept": 1})[0] == of_numbers("krum", FIVE)[0]
    # More than n - f are never kept.
    assert of_numbers("multi_krum", FIVE, settings={"num_kept": 5})[0] == 7 / 4


@pytest.mark.parametrize(
    ("numbers", "num_bad", "expected"),
    [
        ([3], 0, 3.0),
        ([3, 5], 0, 4.0),  # none of two can be told from the other
        ([0, 1, 50], 0, 0.0),  # one neighbour: a and b score the same
        ([0, 1, 3, 50], 0, 1.0),  # two neighbours: 10, 5, 13
        (FIVE, 1, 1.0),
        ([*FIVE, 101], 1, 2.0),  # six are not enough for f = 2; three neighbours: 21, 11, 9, 29
    ],
)
def test_krum_takes_fewer_sites_with_a_smaller_f(numbers, num_bad, expected):
    found, _, figures = of_numbers("krum", numbers, settings={"num_bad": 2})
    assert (found, figures["num_bad"]) == (expected, num_bad)


# --- geometric median ------------------------------------------------------------------------------------


def test_the_geometric_median_of_points_on_a_line_is_the_middle_one():
    found, weights, _ = of_numbers("geometric_median", [0, 1, 10])
    assert found == pytest.approx(1.0, abs=1e-4)
    assert weights["b"] > 0.999
    # By 10, 10 and 30 tokens, more than half of the weight is at 10.
    by_size, _, _ = of_numbers(
        "geometric_median", [0, 1, 10], tokens=[10, 10, 30], settings={"weigh": "size"}
    )
    assert by_size == pytest.approx(10.0, abs=1e-4)


def test_the_geometric_median_of_a_quadrangle_is_where_its_diagonals_meet():
    corners = np.array([[-1.0, 0.0], [3.0, 0.0], [0.0, -1.0], [0.0, 2.0]])
    weights = median_weights(exact(corners), np.full(4, 0.25))
    np.testing.assert_allclose(weights @ corners, [0.0, 0.0], atol=1e-6)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)


def test_weights_of_an_equilateral_triangle_are_equal():
    corners = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(median_weights(exact(corners), np.full(3, 1 / 3)), np.full(3, 1 / 3))


def test_where_most_sites_agree_they_are_the_median():
    assert of_numbers("geometric_median", [2, 2, 2, 9, -40])[0] == 2.0


@pytest.mark.parametrize("far", [1e2, 1e9, 1e20, 1e38])
def test_two_of_five_sites_do_not_move_the_median_however_far_they_are(far):
    found, weights, _ = of_numbers("geometric_median", [0, 1, 3, far, far])
    assert 0.0 <= found <= 3.0 + 1e-3
    assert (weights["d"] + weights["e"]) * far < 3.1


# --- trimmed mean and median -----------------------------------------------------------------------------


def test_trimmed_mean_and_median_by_hand():
    assert of_numbers("trimmed_mean", FIVE) == (
        float(np.float32(7 / 3)),  # 1, 2 and 4
        dict.fromkeys("abcde", 0.2),
        {"num_bad": 1.0, "refactoring_error": 0.0},
    )
    assert of_numbers("trimmed_mean", FIVE, settings={"num_bad": 2})[0] == 2.0
    assert of_numbers("trimmed_mean", FIVE, settings={"num_bad": 0})[0] == float(np.float32(107 / 5))
    assert of_numbers("coordinate_median", FIVE)[0] == 2.0
    assert of_numbers("coordinate_median", [*FIVE, 3])[0] == 2.5  # of six the mean of 2 and 3
    assert of_numbers("coordinate_median", FIVE, tokens=[1, 1, 1, 1, 10**6])[0] == 2.0


@pytest.mark.parametrize(("num", "num_bad"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2)])
def test_fewer_sites_are_trimmed_less(num, num_bad):
    numbers = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0][:num]
    found, _, figures = of_numbers("trimmed_mean", numbers, settings={"num_bad": 2})
    assert found == sum(numbers) / num
    assert figures["num_bad"] == num_bad


def test_trimming_is_of_products_number_by_number():
    # Products 0, 1, 2, 4, 100 and 0, -1, -2, -4, 7 at two places; c has -B and -A, which is the same product.
    now = pair([[0]], [[1, 0]])
    sites = [
        pair([[0]], [[1, 1]]), pair([[0.5]], [[2, -2]]), pair([[-1]], [[-2, 2]]), pair([[2]], [[2, -2]]),
        pair([[1]], [[100, 7]]),
    ]  # fmt: skip
    found = combine(load_rule("trimmed_mean"), now, updates(now, sites))
    np.testing.assert_allclose(product(found.adapter), [[7 / 3, -1]], atol=1e-6)  # 1, 2, 4; 0, -1, -2
    found = combine(load_rule("coordinate_median"), now, updates(now, sites))
    np.testing.assert_allclose(product(found.adapter), [[2, -1]], atol=1e-6)
    assert found.figures == {"refactoring_error": pytest.approx(0.0, abs=1e-6)}


def test_what_the_rank_cannot_hold_is_told():
    # The median of three is diag(1, 1), whose nearest of rank 1 is 1 away; from 0 to it is 2^0.5.
    now = pair([[0], [0]], [[1, 0]])
    one, two = pair([[1], [0]], [[1, 0]]), pair([[0], [1]], [[0, 1]])
    both = pair([[1], [1]], [[1, 1]])  # 1 everywhere
    found = combine(load_rule("coordinate_median"), now, updates(now, [one, two, both]))
    assert found.figures["refactoring_error"] == pytest.approx(2**-0.5)
    assert np.linalg.norm(product(found.adapter)) == pytest.approx(1.0)


# --- all of them -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ROBUST)
@pytest.mark.parametrize("far", [-1e3, 1e6, 1e38])
def test_one_bad_site_of_five_does_not_take_the_others_along(rule, far):
    found, _, _ = of_numbers(rule, [1.0, 1.1, 1.2, 1.3, far])
    plainly, _, _ = of_numbers("fed_medlora", [1.0, 1.1, 1.2, 1.3, far])
    assert 0.5 < found < 1.35
    assert not 0.5 < plainly < 100


@pytest.mark.parametrize("rule", ROBUST)
def test_a_site_that_claims_to_be_large_counts_as_one(rule):
    found, _, _ = of_numbers(rule, [1.0, 1.1, 1.2, 1.3, 50.0], tokens=[10, 10, 10, 10, 2**53])
    assert 0.9 < found < 1.4


@pytest.mark.parametrize("rule", ROBUST)
def test_a_site_that_trained_on_nothing_has_no_say(rule):
    found, weights, _ = of_numbers(rule, [4.0, 4.0, 4.0, 9.0], tokens=[5, 5, 5, 0])
    assert (found, weights["d"]) == (4.0, 0.0)


def test_numbers_of_sites_that_trained_on_nothing_are_not_in_the_middle():
    for rule in ("trimmed_mean", "coordinate_median"):
        assert of_numbers(rule, [1, 2, 3, 9, 9], tokens=[5, 5, 5, 0, 0])[0] == 2.0


def test_zeros_of_both_signs_are_no_reason_to_keep_a_pair_as_it_is():
    # The products are 0 and -0, and so is their mean; but the pair is not the same at both sites.
    now = pair([[1]], [[1]])
    sites = [pair([[0.0]], [[1]]), pair([[-0.0]], [[1]])]
    assert not all_alike([(one.arrays[B], one.arrays[A]) for one in sites])
    assert all_alike([(sites[1].arrays[B], sites[1].arrays[A])] * 2)
    for found, _ in (product_mean(now, sites, [0.5, 0.5]), middle_mean(now, sites, 0)):
        assert product(found) == 0.0


def test_factors_that_hide_behind_their_product():
    """A bad site sends (-B, -A): its product is an honest one, but in the mean of factors it takes one
    away."""
    now = pair([[0.0], [0.0]], [[1, 0]])
    honest, hidden = pair([[1], [2]], [[1, 3]]), pair([[-1], [-2]], [[-1, -3]])
    sent = updates(now, [honest, honest, honest, hidden])
    wanted = np.array([[1, 3], [2, 6]])
    np.testing.assert_allclose(product(load_rule("fed_medlora").aggregate(now, sent)), wanted / 4, atol=1e-6)
    for rule in ROBUST:
        found = load_rule(rule).aggregate(now, sent)
        np.testing.assert_allclose(product(found), wanted, rtol=1e-5, err_msg=rule)


@pytest.mark.parametrize("rule", ROBUST)
def test_factors_that_hide_behind_rounding(rule):
    """A bad site sends a product that is nearly nothing, out of factors so large that nobody can tell."""
    rng = np.random.default_rng(0)
    now = pair(np.zeros((6, 2)), rng.normal(size=(2, 5)))
    honest = [pair(rng.normal(1, 0.1, size=(6, 2)), now.arrays[A]) for _ in range(4)]
    row = rng.normal(size=5)
    for size in (1e8, 1e15, 1e30):
        bad = pair(size * np.array([[1.0, -1.0]] * 6), [row, row * (1 + 1e-7)])
        found = product(load_rule(rule).aggregate(now, updates(now, [*honest, bad])))
        apart = max(np.linalg.norm(found - product(one)) for one in honest)
        assert apart < 1.0 * np.linalg.norm(product(honest[0])), size


def test_the_mean_of_products_leaves_out_who_has_no_share():
    now, one, two = plain(0.0), plain(1.0), plain(3.0)
    assert product_mean(now, [one, two], [0.0, 1.0]) == (two, 0.0)
    assert product_mean(now, [one, two], [0.25, 0.25], 0.5)[0] == plain(1.0)
    assert product_mean(now, [one], [0.0])[0] == now


def test_distances_between_sites_are_those_between_their_changes():
    """So rules that look at distances alone need not know what the sites started from."""
    rng = np.random.default_rng(2)
    sites = [pair(rng.normal(size=(4, 2)), rng.normal(size=(2, 3))) for _ in range(5)]
    shifted = np.stack([product(one).ravel() - product(sites[0]).ravel() for one in sites])
    by_change = median_weights(exact(shifted), np.full(5, 0.2))
    np.testing.assert_allclose(median_weights(points(sites), np.full(5, 0.2)), by_change, atol=1e-6)


@pytest.mark.parametrize(
    ("rule", "settings", "num_sites"),
    [
        ("norm_clipping", {}, 3),
        ("norm_clipping", {"around": "current"}, 1),
        ("krum", {}, 5),
        ("krum", {"num_bad": 2}, 7),
        ("multi_krum", {}, 5),
        ("multi_krum", {"num_bad": 1, "num_kept": 6}, 7),
        ("geometric_median", {}, 3),
        ("trimmed_mean", {"num_bad": 2}, 5),
        ("coordinate_median", {}, 3),
    ],
)
def test_how_many_sites_are_needed(rule, settings, num_sites):
    needs = load_rule(rule, settings).needs
    assert needs.num_sites == num_sites
    assert not needs.validation


@pytest.mark.parametrize(
    ("rule", "settings", "message"),
    [
        ("norm_clipping", {"bound": -1.0}, "bound must be a number, above 0, or 0 for the median"),
        ("norm_clipping", {"bound": float("nan")}, "bound must be a number"),
        ("norm_clipping", {"bound": True}, "bound must be a number"),
        ("norm_clipping", {"bound": "median"}, "bound must be a number"),
        ("norm_clipping", {"around": "mean"}, 'around must be "result" or "current", got \'mean\''),
        ("norm_clipping", {"around": ["result"]}, 'around must be "result" or "current"'),
        ("norm_clipping", {"weigh": "loss"}, 'weigh must be "size" or "equal", got \'loss\''),
        ("norm_clipping", {"weigh": ["size"]}, 'weigh must be "size" or "equal"'),
        ("geometric_median", {"weigh": 1}, 'weigh must be "size" or "equal"'),
        ("krum", {"num_bad": -1}, "num_bad must be a whole number, 0 or more, got -1"),
        ("krum", {"num_bad": 1.0}, "num_bad must be a whole number"),
        ("krum", {"num_bad": True}, "num_bad must be a whole number"),
        ("krum", {"bad": 1}, "unknown setting 'bad'"),
        ("multi_krum", {"num_kept": -1}, "num_kept must be a whole number, 0 or more"),
        ("trimmed_mean", {"num_bad": 0.5}, "num_bad must be a whole number"),
        ("coordinate_median", {"num_bad": 1}, "it has no settings"),
    ],
)
def test_bad_settings_are_refused(rule, settings, message):
    with pytest.raises(ValueError, match=message):
        load_rule(rule, settings)


@pytest.mark.parametrize("rule", ["krum", "multi_krum", "geometric_median"])
def test_weights_of_arrays_that_do_not_fit_are_refused(rule):
    now = plain(0.0)
    good, *_ = updates(now, [plain(1.0)])
    other = replace(good, site="b", adapter=Adapter({"w": np.zeros(2, np.float32)}))
    with pytest.raises(ValueError, match="'b': array 'w' has shape"):
        load_rule(rule).weights([good, other])
    with pytest.raises(ValueError, match="'b': array 'w' holds NaN"):
        load_rule(rule).weights([good, replace(other, adapter=plain(np.nan))])
