"""The exact sum against rational arithmetic, and the two ways to a mean against each other."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora.aggregation import exact_sum
from fedmedlora.aggregation.exact_sum import ExactSum
from fedmedlora.aggregation.mean import MeanSoFar, mean_of
from fedmedlora.exchange.adapter import Adapter

MAX = float(np.finfo(np.float32).max)
AWKWARD = [0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, MAX, -MAX, 1.0, 1.0000001, -1.0, 0.1]
numbers = st.one_of(st.sampled_from(AWKWARD), st.floats(width=32, allow_nan=False, allow_infinity=False))
weights = st.one_of(st.integers(1, 2**53), st.integers(1, 5), st.floats(2.0**-60, 1.0))
terms = st.lists(st.tuples(st.lists(numbers, min_size=3, max_size=3), weights), min_size=1, max_size=8)


def bits(array):
    return array.tobytes()


def as_float32(row):
    return np.array(row, np.float32)


def summed(rows):
    found = ExactSum((3,))
    for row, weight in rows:
        found.add(as_float32(row), weight)
    return found.total()


@settings(max_examples=300, deadline=None)
@given(rows=terms, data=st.data())
def test_the_sum_is_the_true_one_rounded_once_in_any_order(rows, data):
    found = summed(rows)
    for place in range(3):
        exact = sum(Fraction(float(np.float32(row[place])) * float(weight)) for row, weight in rows)
        assert found[place] == float(exact)  # Fraction to float rounds correctly
    assert bits(summed(data.draw(st.permutations(rows)))) == bits(found)


@settings(max_examples=300, deadline=None)
@given(rows=terms, data=st.data())
def test_all_at_once_or_one_by_one_the_mean_has_the_same_bits(rows, data):
    at_once = mean_of([as_float32(row) for row, _ in rows], [weight for _, weight in rows])
    one_by_one = MeanSoFar({"w": (3,)})
    for row, weight in data.draw(st.permutations(rows)):
        one_by_one.add(Adapter({"w": as_float32(row)}), weight)
    assert bits(one_by_one.mean().arrays["w"]) == bits(at_once)
    total = sum(Fraction(weight) for _, weight in rows)
    for place in range(3):
        exact = (
            sum(Fraction(float(np.float32(row[place]))) * Fraction(weight) for row, weight in rows) / total
        )
        with np.errstate(over="ignore"):
            low, high = (float(np.nextafter(at_once[place], np.float32(end))) for end in (-np.inf, np.inf))
        assert low < exact < high


def test_what_a_plain_sum_loses_is_kept():
    """2^40 + 2^-20 - 2^40: in float64, from the left, the small one is within the last bit of the large."""
    values = [2.0**100, 2.0**-40, -(2.0**100)]
    found = ExactSum((1,))
    for value in values:
        found.add(np.array([value], np.float32), 1)
    assert found.total() == [2.0**-40]
    assert sum(values) == 0.0  # what a plain sum says
    assert mean_of([np.array([v], np.float32) for v in values], [1, 1, 1]) == [np.float32(2.0**-40 / 3)]


def test_a_tie_between_two_float32_goes_to_the_even_one_in_any_order():
    """(1 + 2^-23 + 1) / 2 lies halfway between 1 and 1 + 2^-23; a third site that adds a trifle decides."""
    one, following = np.float32(1), np.nextafter(np.float32(1), np.float32(2))
    trifle = np.float32(1e-40)
    pair = [np.array([one]), np.array([following])]
    assert mean_of(pair, [3, 3]) == mean_of(pair[::-1], [3, 3]) == one
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        rows = [*pair, np.array([trifle])]
        assert mean_of([rows[i] for i in order], [[2**30, 2**30, 1][i] for i in order]) == one


def test_minus_zero_stays_and_a_sum_of_both_zeros_is_zero():
    minus, plus = np.array([-0.0], np.float32), np.array([0.0], np.float32)
    assert bits(mean_of([minus, minus], [1, 2])) == bits(minus)
    assert bits(mean_of([minus, plus], [1, 2])) == bits(plus) == bits(mean_of([plus, minus], [1, 2]))


@pytest.mark.parametrize("size", [1, exact_sum.BLOCK - 1, exact_sum.BLOCK, 2 * exact_sum.BLOCK + 7])
def test_blocks_meet_without_a_gap(size):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((size,)).astype(np.float32) for _ in range(3)]
    by = [5, 7, 11]
    found = mean_of(arrays, by)
    so_far = MeanSoFar({"w": (size,)})
    for array, weight in zip(arrays, by, strict=True):
        so_far.add(Adapter({"w": array}), weight)
    assert bits(so_far.mean().arrays["w"]) == bits(found)
    for place in (0, size // 2, size - 1):
        exact = math.fsum(float(a[place]) * w for a, w in zip(arrays, by, strict=True)) / 23
        assert found[place] == np.float32(exact)
