"""Norm clipping: numbers worked by hand, around what is found and around the adapter of now."""

from __future__ import annotations

import numpy as np
import pytest
from small_rounds import FIVE, of_numbers, pair, product, updates

from fedmedlora.aggregation.rule import combine, load_rule
from fedmedlora.exchange.adapter import Adapter

CURRENT = {"around": "current"}


def test_clipping_around_what_is_found_by_hand():
    # From 0 to 100, each a fifth. At 7/3 distances are 7/3, 4/3, 1/3, 5/3 and 293/3: the middle one is 5/3,
    # and the pulls, -5/3, -4/3, -1/3, 5/3 and 5/3, add up to nothing.
    found, weights, figures = of_numbers("norm_clipping", FIVE)
    assert found == pytest.approx(7 / 3, rel=1e-6)
    assert set(weights.values()) == {0.2}
    assert figures["norm_bound"] == pytest.approx(5 / 3, rel=1e-6)
    assert (figures["num_clipped"], figures["refactoring_error"]) == (2.0, 0.0)
    # With a bound of 1: -1, -1, 0, 1 and 1.
    found, _, figures = of_numbers("norm_clipping", FIVE, settings={"bound": 1})
    assert found == pytest.approx(2, rel=1e-6)
    assert (figures["norm_bound"], figures["num_clipped"]) == (1.0, 3.0)
    # What nobody is further away from than the bound is the mean.
    assert of_numbers("norm_clipping", FIVE, settings={"bound": 100})[0] == pytest.approx(107 / 5)


def test_sites_count_by_what_they_say_or_all_the_same():
    # Pulls at 2: -1, 0 and 1 times three parts, one and one.
    tokens = [10, 10, 30]
    by_size = of_numbers("norm_clipping", [1, 2, 9], tokens=tokens, settings={"bound": 1})
    alike = of_numbers("norm_clipping", [1, 2, 9], tokens=tokens, settings={"bound": 1, "weigh": "equal"})
    # 3 of 5 parts at 9: the two others pull 2 parts of 1 at most, so 3 (9 - W) = 2.
    assert by_size[0] == pytest.approx(25 / 3, rel=1e-6)
    assert alike[0] == pytest.approx(2, rel=1e-6)


@pytest.mark.parametrize("far", [-1.0, -1e2, -1e9, -1e20, -1e38])
def test_two_of_five_sites_pull_no_further_than_an_honest_one(far):
    # At 0.9 pulls are 0.1, 0.2, 0.3 and twice -0.3. Clipped once, from 0, they take away two of three.
    honest = [1.0, 1.1, 1.2]
    assert of_numbers("norm_clipping", [*honest, far, far])[0] == pytest.approx(0.9, rel=1e-5)
    assert of_numbers("norm_clipping", [*honest, far, far], settings=CURRENT)[0] < 0.4


def test_where_most_sites_agree_they_are_what_is_found():
    assert of_numbers("norm_clipping", [2, 2, 2, 9, -40])[0] == 2.0
    assert of_numbers("norm_clipping", [0, 0, 0, 9, -40])[2]["norm_bound"] == 0.0


def test_clipping_once_to_the_median_by_hand():
    # From 1 the sites go 1, 2 and -9 far, by 1, 1 and 2 parts. The middle norm is 2, so -9 becomes -2:
    # 1 + (1 * 1 + 1 * 2 + 2 * -2) / 4 = 0.75.
    found, weights, figures = of_numbers(
        "norm_clipping", [2, 3, -8], current=1, tokens=[10, 10, 20], settings=CURRENT
    )
    assert found == 0.75
    assert weights == {"a": 0.25, "b": 0.25, "c": 0.5}
    assert figures == {"norm_bound": 2.0, "num_clipped": 1.0, "refactoring_error": 0.0}
    # Each the same: 1 + (1 + 2 - 2) / 3.
    found, weights, _ = of_numbers(
        "norm_clipping", [2, 3, -8], current=1, settings={"weigh": "equal", **CURRENT}
    )
    assert found == pytest.approx(4 / 3)
    assert set(weights.values()) == {1 / 3}


def test_clipping_once_to_a_number_by_hand():
    found, _, figures = of_numbers("norm_clipping", [1, 2, -9, 0.25], settings={"bound": 0.5, **CURRENT})
    assert found == (0.5 + 0.5 - 0.5 + 0.25) / 4
    assert figures["num_clipped"] == 3
    # Law 2 is broken by design: a site alone is clipped too. Around what is found it is not.
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
