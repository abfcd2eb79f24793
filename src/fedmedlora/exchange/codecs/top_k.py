"""Of each array the values that are largest in absolute value, as they are, and zero for all others.

Aji and Heafield, "Sparse Communication for Distributed Gradient Descent", https://arxiv.org/abs/1704.05021,
section 3 (with thresholds of each array's own); Stich et al., "Sparsified SGD with Memory",
https://arxiv.org/abs/1809.07599, section 2 and algorithm 1. Of equal values those that come first.
Exactly ``ceil(share * size)`` are sent, even if some are zero, so that the size is known before. Departs from
both in what is made sparse: a whole round's change, not one step's gradient.

Positions are written as a bit per value, or as four bytes per value that is sent, whichever is shorter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedmedlora.exchange.codec import Spec


@dataclass(frozen=True, slots=True)
class TopK:
    """``share``: of the values of each array, above 0 and at most 1; rounded up to a whole number of them."""

    share: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"top_k share {self.share!r}: it is above 0 and at most 1")

    @property
    def is_exact(self) -> bool:
        """Most values are left for later rounds."""
        return False

    def specs(self, shape: Sequence[int]) -> dict[str, Spec]:
        """``bits`` or ``positions`` (in C order, rising), and ``values`` in the same order."""
        num = math.prod(shape)
        k = self._k(num)
        where = {"bits": Spec("U8", (-(-num // 8),))}
        if 4 * k < -(-num // 8):
            where = {"positions": Spec("U32", (k,))}
        return {**where, "values": Spec("F32", (k,))}

    def encode(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """The ``k`` largest values of ``array``."""
        flat = array.reshape(-1)
        positions = _largest(np.abs(flat), self._k(flat.size))
        found = {"values": flat[positions]}
        if "positions" in self.specs(array.shape):
            return {"positions": positions.astype(np.uint32), **found}
        sent = np.zeros(flat.size, np.uint8)
        sent[positions] = 1
        return {"bits": np.packbits(sent, bitorder="little"), **found}

    def decode(self, parts: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """Zeros, with the values in their places."""
        num = math.prod(shape)
        if "positions" in parts:
            positions = parts["positions"].astype(np.int64)
            if (np.diff(positions) <= 0).any() or (positions >= num).any():
                raise ValueError("positions do not rise, or lead out of the array")
        else:
            sent = np.unpackbits(parts["bits"], bitorder="little")
            positions = np.flatnonzero(sent)
            if positions.size != parts["values"].size or (positions >= num).any():
                raise ValueError("there are not as many positions as values, or one leads out of the array")
        found = np.zeros(num, np.float32)
        found[positions] = parts["values"]
        return found.reshape(tuple(shape))

    def _k(self, num: int) -> int:
        return min(num, math.ceil(self.share * num - 1e-9)) if self.share * num > 1 else min(num, 1)


def _largest(sizes: np.ndarray, k: int) -> np.ndarray:
    """Positions, rising, of the ``k`` largest of ``sizes``; of equal ones those that come first."""
    if k == 0:
        return np.zeros(0, np.int64)
    least = np.partition(sizes, sizes.size - k)[sizes.size - k]
    larger = np.flatnonzero(sizes > least)
    equal = np.flatnonzero(sizes == least)[: k - larger.size]
    return np.sort(np.concatenate([larger, equal]))


CODEC = TopK
