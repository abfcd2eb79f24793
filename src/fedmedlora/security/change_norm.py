"""How far an update moved the model: the Frobenius norm of the change of B A over all layers.

Two adapters may differ in A and B and mean the same, and the other way round; what the model feels is the
product. With dA = A1 - A0 and dB = B1 - B0 its change is B1 dA + dB A0 = L R, L = [B1, dB] and R = [dA; A0],
and ||L R||^2 = trace((L^T L)(R R^T)): matrices of 2r by 2r, the d by d product is never formed. Written so,
nothing large cancels. LoRA's scale is left out: it is the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from fedmedlora.aggregation.products import layout
from fedmedlora.exchange.adapter import Adapter

_BLOCK = 1 << 18  # numbers that are summed up in float32 at once


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


def array_norms(adapter: Adapter) -> dict[str, float]:
    """Array -> its Frobenius norm in one quick pass, to some 1e-5 of it; infinite where float32 overflows,
    and never finite where a number is not."""
    return {name: _norm(array.reshape(-1)) for name, array in adapter.arrays.items()}


def change_norm_at_most(
    shapes: Mapping[str, tuple[int, ...]], before: Mapping[str, float], after: Mapping[str, float]
) -> float:
    """What ``change_norm`` cannot be above, by the ``array_norms`` of the two adapters of ``shapes`` alone:
    ||B1 A1 - B0 A0|| <= ||B1|| ||A1|| + ||B0|| ||A0||.

    Measuring takes as long as averaging. The norms take a twelfth of that, and as long as looking for what is
    not finite, which they do as well. It will do where no bound is near.
    """
    pairs, others = layout(shapes)
    parts = [after[pair.b] * after[pair.a] + before[pair.b] * before[pair.a] for pair in pairs]
    parts += [after[name] + before[name] for name in others]
    return 1.001 * math.hypot(*parts)  # above what the norms are rounded by


def _norm(flat: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        blocks = (flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK))
        return math.sqrt(sum(float(np.dot(block, block)) for block in blocks))


def _of_product(old_a: np.ndarray, old_b: np.ndarray, new_a: np.ndarray, new_b: np.ndarray) -> float:
    """||B1 A1 - B0 A0||^2. A: (rank, d_in); B: (d_out, rank)."""
    old_a, new_a = old_a.astype(np.float64), new_a.astype(np.float64)
    old_b, new_b = old_b.astype(np.float64), new_b.astype(np.float64)
    left = np.concatenate([new_b, new_b - old_b], axis=1)  # (d_out, 2 rank)
    right = np.concatenate([new_a - old_a, old_a], axis=0)  # (2 rank, d_in)
    return float(np.sum((left.T @ left) * (right @ right.T)))
