"""Both exact sums, the fast one and the plain one, against rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora.aggregation.exact_sum import ExactBlock, Scratch, _extent
from fedmedlora.aggregation.expansion import Expansion

MAX = float(np.finfo(np.float32).max)
AWKWARD = [0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, MAX, -MAX, 1.0, 1.0000001, -1.0, 0.1]
numbers = st.one_of(st.sampled_from(AWKWARD), st.floats(width=32, allow_nan=False, allow_infinity=False))
usual = st.floats(-1.0, 1.0, width=32).filter(lambda x: x == 0 or abs(x) > 1e-9)
weights = st.one_of(st.integers(1, 2**53), st.integers(1, 2**20), st.floats(2.0**-60, 1.0))
SCRATCH = Scratch()


def terms(values):
    row = st.lists(values, min_size=3, max_size=3)
    return st.lists(st.tuples(row, weights), min_size=1, max_size=8)


def as_float32(row):
    return np.array(row, np.float32)


def fast(rows, block=None):
    found = block or ExactBlock(len(rows[0][0]))
    for row, weight in rows:
        found.add(as_float32(row), weight, SCRATCH)
    return found.total()


def plain(rows):
    found = Expansion(len(rows[0][0]))
    for row, weight in rows:
        found.add(as_float32(row).astype(np.float64) * weight)
    return found.total()


def true(rows):
    return [
        float(sum(Fraction(float(np.float32(row[place])) * float(weight)) for row, weight in rows))
        for place in range(len(rows[0][0]))
    ]  # Fraction to float rounds correctly


@pytest.mark.parametrize("values", [numbers, usual], ids=["awkward", "usual"])
@pytest.mark.parametrize("way", [fast, plain])
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_the_sum_is_the_true_one_rounded_once_in_any_order(way, values, data):
    rows = data.draw(terms(values))
    found = way(rows)
    assert found.tolist() == true(rows)
    assert way(data.draw(st.permutations(rows))).tobytes() == found.tobytes()
    assert found.tobytes() == plain(rows).tobytes()


def test_what_float64_loses_is_kept():
    """2^100 + 2^-40 - 2^100: in float64, from the left, the small one is within the last bit of the large."""
    rows = [([value], 1) for value in (2.0**100, 2.0**-40, -(2.0**100))]
    assert fast(rows) == plain(rows) == [2.0**-40]
    assert sum(row[0] for row, _ in rows) == 0.0  # what a plain sum says


@pytest.mark.parametrize("way", [fast, plain])
def test_zeros_keep_their_sign_where_all_have_it(way):
    minus, both, gone = [-0.0, -0.0, 1.0], [-0.0, 0.0, -1.0], [-0.0, -0.0, 2.0**-70]
    assert way([(minus, 3), (minus, 5)]).tobytes() == np.array([-0.0, -0.0, 8.0]).tobytes()
    assert way([(minus, 3), (both, 3)]).tobytes() == np.array([-0.0, 0.0, 0.0]).tobytes()
    # However far apart the others are: on the grid, below it, and past what two levels hold.
    large = [-0.0, -0.0, 2.0**100]
    for rows in ([minus, large], [large, minus], [gone, large], [large, gone], [gone, minus, large, minus]):
        found = way([(row, 1) for row in rows])
        assert np.signbit(found[:2]).all()
        assert not found[:2].any()
    assert (
        way([([-0.0, 2.0**100], 1), ([0.0, 2.0**-100], 1)]).tobytes() == np.array([0.0, 2.0**100]).tobytes()
    )


def test_nothing_added_up_is_minus_zero():
    assert np.signbit(ExactBlock(2).total()).all()
    assert np.signbit(Expansion(2).total()).all()
    assert fast([([0.0, -0.0], 1)]).tobytes() == np.array([0.0, -0.0]).tobytes()


def test_ten_thousand_sites():
    """The grid grows with the sum, and stays exact: sizes up to 2^20, values of trained adapters' spread."""
    rng = np.random.default_rng(0)
    block, total = ExactBlock(5), [Fraction(0)] * 5
    for weight in rng.integers(1, 2**20, 10_000).tolist():
        row = (0.02 * rng.standard_normal(5)).astype(np.float32)
        block.add(row, weight, SCRATCH)
        total = [so_far + Fraction(float(x)) * weight for so_far, x in zip(total, row, strict=True)]
    assert block.total().tolist() == [float(one) for one in total]
    assert block._plain is None  # and needs the plain way nowhere


@settings(max_examples=200, deadline=None)
@given(row=st.lists(numbers, min_size=1, max_size=5), weight=weights)
def test_every_term_is_a_multiple_of_its_last_bit(row, weight):
    values = as_float32(row)
    largest, last_bit = _extent(values, weight, np.empty(len(row), np.float32))
    for term in (values.astype(np.float64) * weight).tolist():
        assert abs(term) <= largest
        assert term == 0 or (Fraction(term) / Fraction(last_bit)).denominator == 1


def test_values_of_few_bits_need_one_level():
    """bfloat16: 8 bits. All lie on the grid: no second array is made."""
    rng = np.random.default_rng(0)
    rows = (0.02 * rng.standard_normal((10, 64))).astype(np.float32)
    rows = (rows.view(np.uint32) & 0xFFFF0000).view(np.float32)
    rows[np.abs(rows) < 1e-4] = 0.0
    block = ExactBlock(64)
    found = fast([(row, 1000 + 37 * number) for number, row in enumerate(rows)], block)
    assert block._low is None
    assert found.tolist() == true([(row, 1000 + 37 * number) for number, row in enumerate(rows)])


def test_a_thousand_terms_at_the_ends_of_float32():
    """Sums of the largest values with the largest weights, and of the smallest: no overflow, nothing lost."""
    large = [([MAX, -MAX, 1e-45], 2**53)] * 1000
    assert fast(large).tolist() == plain(large).tolist() == true(large)
    assert math.isfinite(fast(large)[0])
    small = [([1e-45, -1e-45, 1e-45], 2.0**-60)] * 1000
    assert fast(small).tolist() == true(small) == [math.ldexp(sign * 1000, -209) for sign in (1, -1, 1)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_and_not_passed_on_for_ever(value):
    with pytest.raises(AssertionError, match="finite"):
        fast([([1.0, value], 1)])
    with pytest.raises(AssertionError, match="finite"), np.errstate(invalid="ignore"):
        plain([([1.0, value], 1)])
