"""The norm of the change of the product, against the product itself and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.security.change_norm import array_norms, change_norm, change_norm_at_most

A, B = "layers.0.lora_A.weight", "layers.0.lora_B.weight"


def pair(a, b) -> Adapter:
    return Adapter({A: np.array(a, np.float32), B: np.array(b, np.float32)})


def test_by_hand():
    """B A = [[1*3, 1*4], [2*3, 2*4]]; twice A doubles it, so the change is the product: 3^2+4^2+6^2+8^2 =
    125."""
    before, after = pair([[3, 4]], [[1], [2]]), pair([[6, 8]], [[1], [2]])
    assert change_norm(before, after) == pytest.approx(125**0.5)
    assert change_norm(before, before) == 0.0


def test_other_factors_of_the_same_product_are_no_change():
    before, after = pair([[3, 4]], [[1], [2]]), pair([[6, 8]], [[0.5], [1]])
    assert change_norm(before, after) == pytest.approx(0.0, abs=1e-9)


def test_both_signs_turned_are_no_change_and_one_is_twice_the_product():
    before = pair([[3, 4]], [[1], [2]])
    assert change_norm(before, pair([[-3, -4]], [[-1], [-2]])) == pytest.approx(0.0, abs=1e-9)
    assert change_norm(before, pair([[-3, -4]], [[1], [2]])) == pytest.approx(2 * 125**0.5)


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_dense_product(seed):
    rng = np.random.default_rng(seed)
    old = pair(rng.normal(size=(3, 7)), rng.normal(size=(5, 3)))
    new = pair(rng.normal(size=(3, 7)), rng.normal(size=(5, 3)))
    dense = [one.arrays[B].astype(np.float64) @ one.arrays[A] for one in (old, new)]
    assert change_norm(old, new) == pytest.approx(np.linalg.norm(dense[1] - dense[0]), rel=1e-10)


def test_a_small_change_of_a_large_product_is_not_lost():
    before, after = pair([[1e4, 0]], [[1e4], [0]]), pair([[1e4, 0]], [[1e4], [1e-3]])
    assert change_norm(before, after) == pytest.approx(1e-3 * 1e4, rel=1e-6)


def test_what_has_no_partner_counts_by_itself():
    before = Adapter({"head": np.zeros(2, np.float32), B: np.zeros((2, 1), np.float32)})
    after = Adapter({"head": np.array([3, 0], np.float32), B: np.array([[0], [4]], np.float32)})
    assert change_norm(before, after) == 5.0


def at_most(before: Adapter, after: Adapter) -> float:
    return change_norm_at_most(before.shapes(), array_norms(before), array_norms(after))


@pytest.mark.parametrize("seed", range(5))
def test_a_quick_look_is_never_below_it(seed):
    rng = np.random.default_rng(seed)
    old, new = (
        Adapter({A: size * a, B: size * b, "head": size * h})
        for size, a, b, h in (
            (np.float32(10.0**n), *(rng.normal(size=s).astype("f4") for s in ((2, 5), (5, 2), (300_000,))))
            for n in rng.integers(-3, 4, size=2)
        )
    )
    assert change_norm(old, new) <= at_most(old, new) <= 5 * change_norm(old, new)
    head, turned = (Adapter({"head": sign * old.arrays["head"]}) for sign in (1, -1))
    assert at_most(head, turned) / change_norm(head, turned) == pytest.approx(1.001, rel=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 299_999, 700_000])
def test_a_norm_of_what_is_not_finite_is_not_finite(value, place):
    array = np.ones(700_001, np.float32)
    assert array_norms(Adapter({"x": array}))["x"] == pytest.approx(700_001**0.5)
    array[place] = value
    assert not np.isfinite(array_norms(Adapter({"x": array}))["x"])


def test_a_quick_look_at_what_is_absurd_is_no_number_that_passes():
    before = pair([[3, 4]], [[0], [0]])
    for a, b in (([[1e30, 0]], [[1], [1]]), ([[3, 4]], [[1e30], [0]]), ([[1e30, 0]], [[0], [0]])):
        assert not at_most(before, pair(a, b)) <= 1e4
