"""Number by number over the sites: the mean of the middle ones, of what each adds to the model.

The numbers are those of the products B_k A_k, whose rows are formed a block at a time for all sites, sorted
over the sites and averaged; only the result of one pair is there as a whole, d_out x d_in numbers in float64
(at most 470 MB of LLaMA-3-8B, 7 MB of SmolLM2-135M). What comes of it has no low rank: the nearest of rank r
is kept (``refactor.py``), and how much that loses is told. Arrays that are no factors of a pair are taken as
they are.

A pair that is the same at all sites, and an only site, stay as they are, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedmedlora.aggregation.product_mean import all_alike, lost_share
from fedmedlora.aggregation.products import Array64, layout
from fedmedlora.aggregation.refactor import Array32, nearest
from fedmedlora.exchange.adapter import Adapter

_BLOCK = 1 << 20  # numbers of all sites together that are sorted at once: 8 MB


def middle_mean(current: Adapter, adapters: Sequence[Adapter], num_cut: int) -> tuple[Adapter, float]:
    """(the mean of every number without its ``num_cut`` lowest and ``num_cut`` highest, ``lost_share``).

    ``num_cut`` is less than half of the adapters. Shapes are equal, values finite.
    """
    assert 2 * num_cut < len(adapters)
    pairs, others = layout(current.shapes())
    found: dict[str, Array32] = {}
    lost = changed = 0.0
    for pair in pairs:
        factors = [(one.arrays[pair.b], one.arrays[pair.a]) for one in adapters]
        if all_alike(factors):
            found[pair.b], found[pair.a] = factors[0]
            continue
        now = current.arrays[pair.b], current.arrays[pair.a]
        kept = nearest(_change(factors, now, num_cut), now)
        found[pair.b], found[pair.a] = kept.b, kept.a
        lost, changed = lost + kept.lost, changed + kept.changed
    for name in others:
        found[name] = _as_it_is([one.arrays[name] for one in adapters], num_cut)
    return Adapter(found), lost_share(lost, changed)


def _change(
    factors: Sequence[tuple[Array32, Array32]], now: tuple[Array32, Array32], num_cut: int
) -> Array64:
    """The middle of the products less the product of ``now``: (d_out, d_in)."""
    b0, a0 = (factor.astype(np.float64) for factor in now)
    rights = [a.astype(np.float64) for _, a in factors]
    change = np.empty((len(b0), a0.shape[1]))
    num_rows = max(1, _BLOCK // max(1, len(factors) * a0.shape[1]))
    room = np.empty((len(factors), min(num_rows, len(b0)), a0.shape[1]))
    for start in range(0, len(b0), num_rows):
        rows = slice(start, min(start + num_rows, len(b0)))
        products = room[:, : rows.stop - start]
        for product, (b, _), a in zip(products, factors, rights, strict=True):
            np.matmul(b[rows].astype(np.float64), a, out=product)
        np.subtract(_middle(products, num_cut), b0[rows] @ a0, out=change[rows])
    return change


def _as_it_is(arrays: Sequence[Array32], num_cut: int) -> Array32:
    flat = [array.reshape(-1) for array in arrays]
    found = np.empty(flat[0].shape, np.float32)
    size = max(1, _BLOCK // len(flat))
    for start in range(0, len(found), size):
        values = np.stack([one[start : start + size] for one in flat]).astype(np.float64)
        mean = _middle(values, num_cut)  # sorts them
        low, high = values[num_cut], values[len(values) - num_cut - 1]
        found[start : start + size] = np.where(low == high, low, mean)  # of -0.0 the mean would be 0.0
    return found.reshape(arrays[0].shape)


def _middle(values: Array64, num_cut: int) -> Array64:
    """The mean over the first axis, of (sites, ...), which is sorted in place first."""
    values.sort(axis=0)
    kept: Array64 = values[num_cut : len(values) - num_cut].mean(axis=0)
    return kept
