"""How far an update moved the model: the Frobenius norm of the change of B A over all layers.

Two adapters may differ in A and B and mean the same, and the other way round; what the model feels is the
product. With dA = A1 - A0 and dB = B1 - B0 its change is B1 dA + dB A0 = L R, L = [B1, dB] and R = [dA; A0],
and ||L R||^2 = trace((L^T L)(R R^T)): matrices of 2r by 2r, the d by d product is never formed. Written so,
nothing large cancels. LoRA's scale is left out: it is the same for all.
"""

from __future__ import annotations

import math

import numpy as np

from fedmedlora.aggregation.products import layout
from fedmedlora.exchange.adapter import Adapter


def change_norm(before: Adapter, after: Adapter) -> float:
    """The norm of the change from ``before`` to ``after``, which have the same names and shapes.

    An array without its partner (one factor alone travels, or a whole model) counts by itself.
    """
    total = 0.0
    pairs, others = layout(before.shapes())
    old, new = before.arrays, after.arrays
    for pair in pairs:
        total += _of_product(old[pair.a], old[pair.b], new[pair.a], new[pair.b])
    for name in others:
        total += float(np.square(new[name].astype(np.float64) - old[name]).sum())
    return math.sqrt(max(total, 0.0))  # rounding may leave a little less than nothing


def _of_product(old_a: np.ndarray, old_b: np.ndarray, new_a: np.ndarray, new_b: np.ndarray) -> float:
    """||B1 A1 - B0 A0||^2. A: (rank, d_in); B: (d_out, rank)."""
    old_a, new_a = old_a.astype(np.float64), new_a.astype(np.float64)
    old_b, new_b = old_b.astype(np.float64), new_b.astype(np.float64)
    left = np.concatenate([new_b, new_b - old_b], axis=1)  # (d_out, 2 rank)
    right = np.concatenate([new_a - old_a, old_a], axis=0)  # (2 rank, d_in)
    return float(np.sum((left.T @ left) * (right @ right.T)))
