"""The two ways to a mean, at once and one by one, against each other and against rational arithmetic."""

from __future__ import annotations

import math
import weakref
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora.aggregation import at_once, exact_sum, threads
from fedmedlora.aggregation.at_once import mean_of, means_of
from fedmedlora.aggregation.mean import FoldBySize, weighted_mean
from fedmedlora.aggregation.one_by_one import MeanSoFar
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate

MAX = float(np.finfo(np.float32).max)
AWKWARD = [0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, MAX, -MAX, 1.0, 1.0000001, -1.0, 0.1]
numbers = st.one_of(st.sampled_from(AWKWARD), st.floats(width=32, allow_nan=False, allow_infinity=False))
weights = st.one_of(st.integers(1, 2**53), st.integers(1, 5), st.floats(2.0**-60, 1.0))
terms = st.lists(st.tuples(st.lists(numbers, min_size=3, max_size=3), weights), min_size=1, max_size=8)


def bits(array):
    return array.tobytes()


def as_float32(row):
    return np.array(row, np.float32)


def one_by_one(arrays, by):
    found = MeanSoFar({"w": arrays[0].shape})
    for array, weight in zip(arrays, by, strict=True):
        found.add(Adapter({"w": array}), weight)
    return found.mean().arrays["w"]


@settings(max_examples=300, deadline=None)
@given(rows=terms, data=st.data())
def test_at_once_or_one_by_one_the_mean_has_the_same_bits(rows, data):
    found = mean_of([as_float32(row) for row, _ in rows], [weight for _, weight in rows])
    turned = data.draw(st.permutations(rows))
    assert bits(one_by_one([as_float32(row) for row, _ in turned], [w for _, w in turned])) == bits(found)
    total = sum(Fraction(weight) for _, weight in rows)
    for place in range(3):
        exact = (
            sum(Fraction(float(np.float32(row[place]))) * Fraction(weight) for row, weight in rows) / total
        )
        with np.errstate(over="ignore"):
            low, high = (float(np.nextafter(found[place], np.float32(end))) for end in (-np.inf, np.inf))
        assert low < exact < high


@pytest.mark.parametrize("few", [0, 10**9], ids=["plain exact sums", "one by one"])
@pytest.mark.parametrize(
    "rows",
    [
        "trained", "tiny", "huge", "zeros", "one bit apart", "cancelling",
    ],
)  # fmt: skip
def test_many_numbers_have_the_bits_of_their_exact_sums(monkeypatch, rows, few):
    """Whichever of its ways at_once takes: rows of every kind against fsum, number by number."""
    monkeypatch.setattr(at_once, "_FEW", few)
    rng = np.random.default_rng(1)
    trained = 0.02 * rng.standard_normal((20, 20_000))
    made = {
        "trained": trained,
        "tiny": trained * 1e-30,  # squares vanish in float32
        "huge": np.clip(trained, -0.1, 0.1) * 3e39,  # squares overflow
        "zeros": np.where(trained > 0, 0.0, -0.0) * (np.arange(20_000) % 3 > 0),
        "one bit apart": np.nextafter(np.float32(0.3), np.float32(1)) + (trained > 0) * 2.0**-25,
        "cancelling": np.concatenate([trained[:10], -trained[:10]]),
    }[rows].astype(np.float32)
    by = [1000 + 37 * (number % 10) for number in range(20)]
    found = mean_of(list(made), by)
    wide = made.astype(np.float64) * np.array(by)[:, None]
    sums = np.array([math.fsum(column) for column in wide.T.tolist()])
    assert np.array_equal(found, (sums / sum(by)).astype(np.float32))
    # ... the sign of zero among them
    assert bits(found) == bits(one_by_one(made, by))


@pytest.mark.parametrize("scale", [1e-43, 1e-30, 1e-19, 1.0, 1e19, 1e38])
def test_the_bound_holds_at_every_scale(scale):
    """Squares of float32 vanish below 1e-19 or so, and are infinite above 1e19."""
    rng = np.random.default_rng(0)
    rows = (scale * rng.uniform(-1, 1, (20, 500))).astype(np.float32)
    shares = rng.uniform(0, 1, 20)
    with np.errstate(over="ignore"):
        bound = at_once._plain_sum(list(rows), shares, np.empty((16, 500)), np.empty(500))
    assert bound + at_once._VANISHING >= (shares[:, None] * np.abs(rows.astype(np.float64))).sum(axis=0).max()
    if scale == 1.0:
        assert bound < 20 * 500**0.5


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


@pytest.mark.parametrize(
    "size", [0, 1, exact_sum.BLOCK - 1, exact_sum.BLOCK, threads.PART + exact_sum.BLOCK + 7]
)
def test_blocks_and_parts_meet_without_a_gap(size):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((size,)).astype(np.float32) for _ in range(3)]
    by = [5, 7, 11]
    found = mean_of(arrays, by)
    assert bits(one_by_one(arrays, by)) == bits(found)
    for place in {0, size // 2, size - 1} if size else ():
        exact = math.fsum(float(a[place]) * w for a, w in zip(arrays, by, strict=True)) / 23
        assert found[place] == np.float32(exact)


@pytest.mark.parametrize("num_cores", [1, 2, 5])
def test_the_bits_do_not_depend_on_the_number_of_threads(monkeypatch, num_cores):
    rng = np.random.default_rng(0)
    shapes = {"a": (3, 200_000), "b": (700_000,), "c": ()}
    sites = [{n: rng.standard_normal(s, dtype=np.float32) for n, s in shapes.items()} for _ in range(3)]
    sites = [{n: np.asarray(array, np.float32) for n, array in site.items()} for site in sites]
    by = [3, 4, 5]
    monkeypatch.setattr(threads, "num_cores", lambda: 1)
    one = Adapter(means_of(sites, by))
    monkeypatch.setattr(threads, "num_cores", lambda: num_cores)
    assert Adapter(means_of(sites, by)) == one
    fold = MeanSoFar(shapes)
    for site, weight in zip(sites, by, strict=True):
        fold.add(Adapter(site), weight)
    assert fold.mean() == one


def test_weights_of_every_size():
    """Shares down to the smallest float64, and sizes up to the largest: the same bits both ways."""
    rows = [as_float32([1.0, -0.1, MAX, 1e-45]), as_float32([3.0, 0.1, -MAX, 1e-45]), as_float32([0.5] * 4)]
    for by in ([1.0, 5e-324, 1e-310], [2**53, 1, 2**53 - 1], [2.0**-500 * 3, 1e-200, 5e-324]):
        assert bits(mean_of(rows, by)) == bits(one_by_one(rows, by))
    with pytest.raises(AssertionError):  # shares of a total that float64 divides badly
        mean_of(rows, [1e-310, 1e-310, 1e-310])


def update(site, num_tokens, current, values):
    return SiteUpdate(site, 1, Adapter({"w": as_float32(values)}), current.hash(), num_tokens)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -1.0])
def test_a_weight_that_is_none_is_our_own_bug(weight):
    current = Adapter({"w": as_float32([0.0])})
    updates = [update("a", 1, current, [1.0]), update("b", 1, current, [2.0])]
    with pytest.raises(AssertionError):
        weighted_mean(current, updates, {"a": 1.0, "b": weight})


def test_what_was_folded_in_is_let_go_of():
    current = Adapter({"w": np.zeros(1000, np.float32)})
    fold, seen = FoldBySize(current), []
    for number in range(20):
        one = update(f"s{number}", 1 + number, current, [float(number)] * 1000)
        seen.append(weakref.ref(one.adapter.arrays["w"]))
        fold.add(one)
        del one
    assert [ref() for ref in seen] == [None] * 20
    # sum of k (k + 1) over sum of (k + 1), k = 0 to 19: 2660 / 210
    assert fold.finish()[1].arrays["w"][0] == np.float32(2660 / 210)
