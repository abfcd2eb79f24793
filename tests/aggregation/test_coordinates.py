"""Products number by number, a block of rows at a time."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from fedmedlora.aggregation import coordinates
from fedmedlora.aggregation.coordinates import middle_mean
from fedmedlora.exchange.adapter import Adapter

A, B = "m.lora_A.weight", "m.lora_B.weight"


def pair(b, a):
    return Adapter({A: np.array(a, np.float32), B: np.array(b, np.float32)})


def product(adapter):
    return adapter.arrays[B].astype(np.float64) @ adapter.arrays[A].astype(np.float64)


def test_blocks_of_rows_give_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    sites = [pair(rng.normal(size=(11, 2)), rng.normal(size=(2, 5))) for _ in range(4)]
    whole, lost = middle_mean(sites[0], sites, 1)
    for numbers in (1, 4 * 5, 3 * 4 * 5):  # one row at a time, and three
        monkeypatch.setattr(coordinates, "_BLOCK", numbers)
        found, also_lost = middle_mean(sites[0], sites, 1)
        np.testing.assert_allclose(product(found), product(whole), atol=1e-6)
        assert also_lost == pytest.approx(lost)
    heads = [Adapter({"w": rng.normal(size=(3, 3)).astype(np.float32)}) for _ in range(4)]
    whole, _ = middle_mean(heads[0], heads, 1)
    monkeypatch.setattr(coordinates, "_BLOCK", 8)  # two numbers of four sites
    assert middle_mean(heads[0], heads, 1)[0] == whole


def test_products_of_all_sites_are_never_there_at_once():
    rng = np.random.default_rng(0)
    num, d_out, d_in = 10, 800, 700
    sites = [pair(rng.normal(size=(d_out, 2)), rng.normal(size=(2, d_in))) for _ in range(num)]
    one = 8 * d_out * d_in  # bytes of one site's product
    tracemalloc.start()
    try:
        middle_mean(sites[0], sites, 2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The result, a block of 8 MB (and of its mean), and factors.
    assert peak < one + 2 * 8 * coordinates._BLOCK < num * one / 2
