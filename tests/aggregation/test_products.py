"""Distances between products, from the factors alone."""

from __future__ import annotations

import numpy as np
import pytest

from fedmedlora.aggregation.products import Pair, Points, layout, lower_median, points
from fedmedlora.exchange.adapter import Adapter

A, B = "m.lora_A.weight", "m.lora_B.weight"


def adapter(b, a, **others):
    arrays = {A: a, B: b, **others}
    return Adapter({name: np.array(array, np.float32) for name, array in arrays.items()})


def drawn(seed, rank=3, scale=1.0):
    rng = np.random.default_rng(seed)
    shapes = {
        "x.lora_A.w": (rank, 7),
        "x.lora_B.w": (5, rank),
        "y.lora_A.w": (rank, 2),
        "y.lora_B.w": (9, rank),
    }
    shapes |= {"head": (4, 3)}
    return Adapter({n: (scale * rng.normal(size=s)).astype(np.float32) for n, s in shapes.items()})


def dense(one):
    """All that an adapter adds, as one vector in float64, formed the plain way."""
    found = [
        (
            one.arrays[f"{m}.lora_B.w"].astype(np.float64) @ one.arrays[f"{m}.lora_A.w"].astype(np.float64)
        ).ravel()
        for m in "xy"
    ]
    return np.concatenate([*found, one.arrays["head"].ravel().astype(np.float64)])


def test_by_hand():
    # [1 2]^T [3 4] = [[3 4] [6 8]], squares 125; [1 0]^T [0 5] = [[0 5] [0 0]], squares 25; together 4 * 5 =
    # 20.
    found = [adapter([[1], [2]], [[3, 4]], head=[1.0]), adapter([[1], [0]], [[0, 5]], head=[3.0])]
    # The head adds 1 * 1, 3 * 3 and 1 * 3.
    np.testing.assert_array_equal(points(found).inner, [[126, 23], [23, 34]])
    # 126 + 34 - 2 * 23 = 114
    np.testing.assert_allclose(points(found).apart(), np.sqrt([[0, 114], [114, 0]]))


def test_equal_to_the_plain_way():
    sites = [drawn(seed) for seed in range(4)]
    vectors = np.stack([dense(one) for one in sites])
    np.testing.assert_allclose(points(sites).inner, vectors @ vectors.T, rtol=1e-13, atol=1e-12)
    plain = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    np.testing.assert_allclose(points(sites).apart(), plain, rtol=1e-8)


def test_a_small_change_is_found_beside_a_large_product():
    before = drawn(0)
    rng = np.random.default_rng(1)
    for step, precision in ((1e-3, 1e-4), (1e-4, 1e-2)):
        after = Adapter(
            {
                n: a + np.float32(step) * rng.normal(size=a.shape).astype(np.float32)
                for n, a in before.arrays.items()
            }
        )
        plain = np.linalg.norm(dense(after) - dense(before))
        assert points([before, after]).apart()[0, 1] == pytest.approx(plain, rel=precision)


def test_factors_that_give_the_same_product_are_at_no_distance_worth_the_name():
    one = drawn(0)
    minus = Adapter({n: -a if ".lora_" in n else a for n, a in one.arrays.items()})
    scaled = Adapter(
        {n: a * np.float32(4.0 if "_A" in n else 0.25 if "_B" in n else 1.0) for n, a in one.arrays.items()}
    )
    assert points([one, minus, scaled]).apart().max() < 1e-4 * np.linalg.norm(dense(one))


def test_what_rounding_can_hide_counts_as_distance():
    """B [1, -1] of 10^20 over two equal rows of A: what is left of the product is not to be measured."""
    honest = adapter([[1.0, 0.0]], [[1.0, 1.0], [0.0, 1.0]])
    hidden = adapter([[1e20, -1e20]], [[1.0, 1.0], [1.0, 1.0]])  # adds nothing at all
    found = points([honest, honest, hidden]).apart()
    assert found[0, 1] < 1e-4
    assert found[0, 2] > 1e14


def test_the_largest_numbers_do_not_overflow():
    largest = float(np.finfo(np.float32).max)
    found = points([adapter([[largest]], [[largest]]), adapter([[largest]], [[-largest]])]).apart()
    assert found[0, 1] == pytest.approx(2 * largest**2)
    smallest = adapter([[1e-45]], [[1e-45]])
    assert points([smallest]).inner[0, 0] > 0


@pytest.mark.parametrize(
    ("shapes", "pairs", "others"),
    [
        ({A: (2, 3), B: (4, 2), "head": (5,)}, (Pair(A, B),), ("head",)),
        ({A: (2, 3)}, (), (A,)),  # A travels alone
        ({B: (4, 2)}, (), (B,)),
        ({A: (2, 3), B: (4, 5)}, (), (A, B)),  # no product
        ({A: (2, 3, 1), B: (4, 2, 1)}, (), (A, B)),
        ({A: (2, 3), "n.lora_B.weight": (4, 2)}, (), (A, "n.lora_B.weight")),
    ],
)
def test_what_is_a_pair(shapes, pairs, others):
    assert layout(shapes) == (pairs, others)


def test_an_array_alone_is_measured_as_it_is():
    # 3 and 4 apart: 5.
    ones = [Adapter({A: np.array([[0, 0]], np.float32)}), Adapter({A: np.array([[3, 4]], np.float32)})]
    assert points(ones).apart()[0, 1] == 5.0


@pytest.mark.parametrize(("left", "distance"), [(2.0**-48, 0.0), (2.0**-46, 2.0**-23), (-1.0, 0.0)])
def test_rounding_is_no_distance(left, distance):
    # Of squares that add up to 2, what is left below 2 * 2^-48 is rounding, and what is negative, too.
    inner = np.array([[1.0, 1.0 - left / 2], [1.0 - left / 2, 1.0]])
    assert Points(inner, np.zeros(2)).apart().tolist() == [[0.0, distance], [distance, 0.0]]
    assert Points(inner, np.array([4.0, 12.0])).apart()[0, 1] == pytest.approx(4.0)


def test_distances_from_a_mean_by_hand():
    # 1, 3 and 7 by a half, a quarter and a quarter: the mean is 3.
    values = np.array([1.0, 3.0, 7.0])
    where = Points(np.outer(values, values), np.zeros(3))
    np.testing.assert_allclose(where.from_mean(np.array([0.5, 0.25, 0.25])), [2.0, 0.0, 4.0])


@pytest.mark.parametrize(("values", "middle"), [([3], 3), ([5, 1], 1), ([9, 1, 2], 2), ([1, 9, 2, 8], 2)])
def test_the_lower_median(values, middle):
    assert lower_median(np.array(values, np.float64)) == middle
