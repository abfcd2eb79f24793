"""Norm clipping: numbers worked by hand, around the result and around the adapter of now."""

from __future__ import annotations

import numpy as np
import pytest
from small_rounds import FIVE, of_numbers, pair, product, updates

from fedmedlora.aggregation.products import Points, lower_median
from fedmedlora.aggregation.reweighting import from_the_others, settled_weights
from fedmedlora.aggregation.rule import combine, load_rule
from fedmedlora.exchange.adapter import Adapter

CURRENT = {"around": "current"}


def test_clipping_around_the_result_by_hand():
    # From 0 to 100, each a fifth. At 7/3 distances are 7/3, 4/3, 1/3, 5/3 and 293/3: the middle one is 5/3,
    # and the pulls, -5/3, -4/3, -1/3, 5/3 and 5/3, add up to nothing.
    found, weights, figures = of_numbers("norm_clipping", FIVE)
    assert found == pytest.approx(7 / 3, rel=1e-6)
    assert figures["norm_bound"] == pytest.approx(5 / 3, rel=1e-6)
    assert (figures["num_clipped"], figures["refactoring_error"]) == (2.0, 0.0)
    raw = [3 / 7, 3 / 5, 3 / 5, 3 / 5, 3 / 293]
    assert list(weights.values()) == pytest.approx([one / sum(raw) for one in raw], rel=1e-6)
    # With a bound of 1: -1, -1, 0, 1 and 1.
    found, _, figures = of_numbers("norm_clipping", FIVE, settings={"bound": 1})
    assert found == pytest.approx(2, rel=1e-6)
    assert (figures["norm_bound"], figures["num_clipped"]) == (1.0, 3.0)
    # What nobody is further away from than the bound is the mean.
    assert of_numbers("norm_clipping", FIVE, settings={"bound": 100})[0] == pytest.approx(107 / 5)


def test_sites_count_the_same_or_by_what_they_say():
    # At 2 pulls are -1, 0 and 1, whoever says what.
    tokens = [10, 10, 30]
    alike = of_numbers("norm_clipping", [1, 2, 9], tokens=tokens, settings={"bound": 1})
    assert alike[0] == pytest.approx(2, rel=1e-6)
    # 3 of 5 parts at 9: the two others pull 2 parts of 1 at most, so 3 (9 - W) = 2.
    settings = {"bound": 1, "weigh": "size"}
    by_size = of_numbers("norm_clipping", [1, 2, 9], tokens=tokens, settings=settings)
    assert by_size[0] == pytest.approx(25 / 3, rel=1e-6)


@pytest.mark.parametrize("far", [-1.0, -1e2, -1e9, -1e20, -1e38])
def test_two_of_five_sites_pull_no_further_than_an_honest_one(far):
    # At 0.9 pulls are 0.1, 0.2, 0.3 and twice -0.3. Clipped once, from 0, they take away two of three.
    honest = [1.0, 1.1, 1.2]
    assert of_numbers("norm_clipping", [*honest, far, far])[0] == pytest.approx(0.9, rel=1e-5)
    assert of_numbers("norm_clipping", [*honest, far, far], settings=CURRENT)[0] < 0.4


@pytest.mark.parametrize("far", [9.0, 1e6])
def test_sites_that_agree_are_found_beside_almost_as_many_others(far):
    assert of_numbers("norm_clipping", [2] * 5 + [far] * 4)[0] == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("settings", [{}, {"bound": 0.5}])
def test_of_two_sites_the_mean_is_taken(settings):
    found, weights, figures = of_numbers("norm_clipping", [1, 9], settings=settings)
    assert (found, figures["num_clipped"]) == (5.0, 0.0)
    assert weights == {"a": 0.5, "b": 0.5}
    by_size = {"weigh": "size", **settings}
    found, weights, figures = of_numbers("norm_clipping", [1, 9], tokens=[60, 40], settings=by_size)
    assert found == pytest.approx(4.2)
    assert figures["num_clipped"] == 0.0
    assert weights == pytest.approx({"a": 0.6, "b": 0.4})


@pytest.mark.parametrize("settings", [{}, CURRENT])
def test_a_bound_that_is_next_to_nothing_throws_nobody_away(settings):
    with np.errstate(all="raise", under="ignore"):
        found = of_numbers("norm_clipping", [1, 1, 1, 3], current=1, settings={"bound": 1e-310, **settings})
    assert found[0] == 1.0


@pytest.mark.parametrize("parts", [np.full(7, 1 / 7), np.arange(4.0, 11.0) / 49])
@pytest.mark.parametrize("num_bad", [0, 1, 2])
@pytest.mark.parametrize("dimensions", [1, 3, 40])
def test_pulls_add_up_to_nothing(dimensions, num_bad, parts):
    rng = np.random.default_rng(dimensions)
    vectors = 5.0 + rng.normal(size=(7, dimensions))
    vectors[:num_bad] *= -30
    where = Points(vectors @ vectors.T, np.zeros(7))
    bounds = []

    def bound(apart):
        bounds.append(lower_median(apart))
        return bounds[-1]

    weights = settled_weights(where, parts, from_the_others(where), bound)
    away = vectors - weights @ vectors
    apart = np.linalg.norm(away, axis=1)
    pulls = parts * np.minimum(1.0, bounds[-1] / np.maximum(apart, 1e-30))
    assert np.linalg.norm(pulls @ away) < 1e-6 * bounds[-1]
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    # No good site is further from the middle of the good ones than this: see the file's own words.
    good = vectors[num_bad:]
    middle = good.mean(axis=0)
    radius = np.linalg.norm(good - middle, axis=1).max()
    if parts[0] == parts[1]:
        assert np.linalg.norm(weights @ vectors - middle) <= 7 / (7 - 2 * num_bad) * radius


def test_where_most_sites_agree_they_are_the_result():
    assert of_numbers("norm_clipping", [2, 2, 2, 9, -40])[0] == 2.0
    assert of_numbers("norm_clipping", [0, 0, 0, 9, -40])[2]["norm_bound"] == 0.0


def test_clipping_once_to_the_median_by_hand():
    # From 1 the sites go 1, 2 and -9 far, by 1, 1 and 2 parts. The middle norm is 2, so -9 becomes -2:
    # 1 + (1 * 1 + 1 * 2 + 2 * -2) / 4 = 0.75.
    found, weights, figures = of_numbers(
        "norm_clipping", [2, 3, -8], current=1, tokens=[10, 10, 20], settings={"weigh": "size", **CURRENT}
    )
    assert found == 0.75
    assert weights == {"a": 0.25, "b": 0.25, "c": 0.5}
    assert figures == {"norm_bound": 2.0, "num_clipped": 1.0, "refactoring_error": 0.0}
    # Each the same: 1 + (1 + 2 - 2) / 3.
    found, weights, _ = of_numbers("norm_clipping", [2, 3, -8], current=1, settings=CURRENT)
    assert found == pytest.approx(4 / 3)
    assert set(weights.values()) == {1 / 3}


def test_clipping_once_to_a_number_by_hand():
    found, _, figures = of_numbers("norm_clipping", [1, 2, -9, 0.25], settings={"bound": 0.5, **CURRENT})
    assert found == (0.5 + 0.5 - 0.5 + 0.25) / 4
    assert figures["num_clipped"] == 3
    # Law 2 is broken by design: a site alone is clipped too. Around the result it is not.
    assert of_numbers("norm_clipping", [8], settings={"bound": 0.5, **CURRENT})[0] == 0.5
    assert of_numbers("norm_clipping", [8], settings={"bound": 0.5})[0] == 8.0


def test_clipping_is_of_the_whole_change():
    # Norms are over all arrays together: 3 and 4 make 5. Of two, the lower is the bound: 1, a fifth.
    now = Adapter({"v": np.zeros(1, np.float32), "w": np.zeros(1, np.float32)})
    sites = [
        Adapter({"v": np.array([v], np.float32), "w": np.array([w], np.float32)})
        for v, w in ((3.0, 4.0), (1.0, 0.0))
    ]
    found = load_rule("norm_clipping", CURRENT).aggregate(now, updates(now, sites))
    assert float(found.arrays["v"][0]) == pytest.approx((3 / 5 + 1) / 2)
    assert float(found.arrays["w"][0]) == pytest.approx((4 / 5 + 0) / 2)


@pytest.mark.parametrize(("settings", "expected"), [(CURRENT, 5 / 3), ({}, 2.0)])
def test_clipping_of_products_by_hand(settings, expected):
    # Products 1, 2 and 9 in one place, from 0, however B and A share them. Once: (1 + 2 + 2) / 3. And at 2
    # pulls are -1, 0 and 1.
    now = pair([[0], [0]], [[1, 0]])
    sites = [pair([[1], [0]], [[1, 0]]), pair([[20], [0]], [[0.1, 0]]), pair([[-3], [0]], [[-3, 0]])]
    found = combine(load_rule("norm_clipping", settings), now, updates(now, sites))
    np.testing.assert_allclose(product(found.adapter), [[expected, 0], [0, 0]], atol=1e-6)
    assert found.figures["norm_bound"] == pytest.approx(2.0 if settings else 1.0, rel=1e-5)
    assert found.figures["refactoring_error"] == pytest.approx(0.0, abs=1e-12)


def test_sites_that_did_not_move_bound_the_one_that_did():
    assert of_numbers("norm_clipping", [1, 1, 5], current=1)[0] == 1.0
    assert of_numbers("norm_clipping", [1, 1, 5], current=1, settings=CURRENT)[0] == 1.0


def test_a_bound_holds_for_what_is_asked_and_not_for_what_the_rank_makes_of_it():
    # From (1, 0) on the diagonal, at rank 1, to (0, 10) with a bound of 1: nine tenths of the first and
    # nearly one of the second are asked for, and the larger is kept.
    now = pair([[1], [0]], [[1, 0]])
    sites = [pair([[0], [10]], [[0, 1]])] * 3
    settings = {"bound": 1.0, **CURRENT}
    found = load_rule("norm_clipping", settings).aggregate(now, updates(now, sites))
    step = 1 / 101**0.5
    np.testing.assert_allclose(product(found), [[0, 0], [0, 10 * step]], atol=1e-6)
    assert 1 < np.linalg.norm(product(found) - product(now)) < 2
