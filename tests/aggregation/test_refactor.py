"""A matrix put into rank r: the nearest one, in balanced factors near those of now."""

from __future__ import annotations

import numpy as np
import pytest

from fedmedlora.aggregation.refactor import combination, nearest

EYE = np.eye(2, dtype=np.float32)


def f32(values):
    return np.array(values, np.float32)


def normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def products(found):
    return found.b.astype(np.float64) @ found.a.astype(np.float64)


def best(matrix, rank):
    """(the nearest of that rank, the square of its distance), the plain way."""
    u, s, vt = np.linalg.svd(matrix)
    return (u[:, :rank] * s[:rank]) @ vt[:rank], float(np.sum(s[rank:] ** 2))


def test_by_hand():
    # Half of diag(4, 0) and half of diag(0, 2) is diag(2, 1): of rank 1, diag(2, 0) is nearest and 1 is lost.
    # Now is diag(1, 0), so the change was diag(1, 1), whose square is 2.
    sites = [(f32([[1], [0]]), f32([[4, 0]])), (f32([[0], [2]]), f32([[0, 1]]))]
    found = combination([0.5, 0.5], sites, (f32([[1], [0]]), f32([[1, 0]])))
    np.testing.assert_allclose(products(found), [[2, 0], [0, 0]], atol=1e-6)
    assert (found.lost, found.changed) == pytest.approx((1.0, 2.0))
    # Balanced, and of the signs that they have now.
    np.testing.assert_allclose(found.b, [[2**0.5], [0]], atol=1e-6)
    np.testing.assert_allclose(found.a, [[2**0.5, 0]], atol=1e-6)
    assert found.b.dtype == found.a.dtype == np.float32


def test_a_dense_change_by_hand():
    # diag(1, 0) and diag(1, 1) added to it: the same matrix as above.
    found = nearest(np.eye(2), (f32([[1], [0]]), f32([[1, 0]])))
    np.testing.assert_allclose(products(found), [[2, 0], [0, 0]], atol=1e-6)
    assert (found.lost, found.changed) == pytest.approx((1.0, 2.0))


@pytest.mark.parametrize(("d_out", "d_in", "rank", "num"), [(9, 6, 2, 3), (3, 30, 2, 5), (20, 4, 3, 2)])
def test_equal_to_the_plain_way(d_out, d_in, rank, num):
    rng = np.random.default_rng(d_out)
    sites = [(normal(rng, d_out, rank), normal(rng, rank, d_in)) for _ in range(num)]
    now = normal(rng, d_out, rank), normal(rng, rank, d_in)
    by = rng.dirichlet(np.ones(num)).tolist()
    wanted = sum(
        share * b.astype(np.float64) @ a.astype(np.float64) for share, (b, a) in zip(by, sites, strict=True)
    )
    before = now[0].astype(np.float64) @ now[1].astype(np.float64)
    near, lost = best(wanted, rank)
    for found in (combination(by, sites, now), nearest(wanted - before, now)):
        np.testing.assert_allclose(products(found), near, atol=2e-6)
        assert found.lost == pytest.approx(lost, rel=1e-9)
        assert found.changed == pytest.approx(np.sum((wanted - before) ** 2), rel=1e-9)
        assert found.lost <= found.changed


def test_a_dense_change_is_hardly_further_than_the_nearest():
    """Where there are more directions than are looked at: no gap in the spectrum, which is the worst case."""
    rng = np.random.default_rng(0)
    now = np.zeros((120, 4), np.float32), normal(rng, 4, 90)
    matrix = rng.normal(size=(120, 90))
    found = nearest(matrix, now)
    _, lost = best(matrix, 4)
    assert lost <= found.lost <= 1.01 * lost
    assert float(np.sum((matrix - products(found)) ** 2)) == pytest.approx(found.lost, rel=1e-6)


def test_the_factors_stay_where_they_are():
    """What is balanced and does not change is given back, with its signs and in its order."""
    rng = np.random.default_rng(3)
    u, v = np.linalg.qr(rng.normal(size=(8, 3))).Q, np.linalg.qr(rng.normal(size=(6, 3))).Q
    turn = np.linalg.qr(rng.normal(size=(3, 3))).Q
    root = np.diag([3.0, 2.0, 1.0])
    now = (u @ root @ turn).astype(np.float32), (turn.T @ root @ v.T).astype(np.float32)
    for found in (combination([1.0], [now], now), nearest(np.zeros((8, 6)), now)):
        np.testing.assert_allclose(found.b, now[0], atol=1e-5)
        np.testing.assert_allclose(found.a, now[1], atol=1e-5)


def test_factors_are_balanced():
    rng = np.random.default_rng(4)
    site = 100 * normal(rng, 7, 2), normal(rng, 2, 5) / 100
    found = combination([1.0], [site], site)
    np.testing.assert_allclose(found.b.T @ found.b, found.a @ found.a.T, rtol=1e-4, atol=1e-5)
    assert found.lost == pytest.approx(0.0, abs=1e-12)


def test_a_direction_that_nothing_fills_can_still_be_trained():
    # diag(1, 0) in rank 2: a direction is free. A row of A goes on, as long as rows are now: (3^2 + 1) / 2 =
    # 5.
    site = f32([[1, 0], [0, 0]]), f32([[1, 0], [0, 0]])
    now = f32([[0, 0], [0, 0]]), f32([[3, 0], [0, 1]])
    for found in (combination([1.0], [site], now), nearest(np.diag([1.0, 0.0]), now)):
        np.testing.assert_allclose(products(found), [[1, 0], [0, 0]], atol=1e-6)
        _, s, _ = np.linalg.svd(found.a)
        np.testing.assert_allclose(s, [5**0.5, 1.0], rtol=1e-6)
    nothing = nearest(np.zeros((2, 2)), (np.zeros((2, 2), np.float32), EYE))
    assert not nothing.b.any()
    np.testing.assert_allclose(nothing.a @ nothing.a.T, EYE, atol=1e-6)


def test_a_rank_above_both_widths():
    rng = np.random.default_rng(5)
    sites = [(normal(rng, 2, 4), normal(rng, 4, 3)) for _ in range(2)]
    wanted = sum(b.astype(np.float64) @ a.astype(np.float64) for b, a in sites) / 2
    for found in (
        combination([0.5, 0.5], sites, sites[0]),
        nearest(wanted - sites[0][0].astype(np.float64) @ sites[0][1].astype(np.float64), sites[0]),
    ):
        assert (found.b.shape, found.a.shape) == ((2, 4), (4, 3))
        np.testing.assert_allclose(products(found), wanted, atol=1e-5)


def test_what_float32_cannot_hold_is_the_largest_that_it_can():
    largest = np.finfo(np.float32).max
    site = f32([[largest]]), f32([[largest, largest]])  # the root of a square of 2^0.5 times the largest
    found = combination([1.0], [site], site)
    assert np.isfinite(found.b).all()
    assert float(np.abs(found.b).max()) == largest


def test_the_same_bits_each_time():
    rng = np.random.default_rng(6)
    now = normal(rng, 50, 2), normal(rng, 2, 40)
    change = rng.normal(size=(50, 40))
    np.random.seed(1)
    first = nearest(change, now)
    np.random.seed(2)
    second = nearest(change, now)
    assert first.b.tobytes() == second.b.tobytes()
    assert first.a.tobytes() == second.a.tobytes()
