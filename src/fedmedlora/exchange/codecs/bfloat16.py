"""Every value rounded to bfloat16, 2 bytes: float32 without the last 16 of its 23 bits of fraction.

Kalamkar et al., "A Study of BFLOAT16 for Deep Learning Training", https://arxiv.org/abs/1905.12322. To the
nearest, and to the even one of two: a value of normal size comes back within 2**-8 of itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedmedlora.exchange.codec import Spec


@dataclass(frozen=True, slots=True)
class BFloat16:
    """No settings."""

    @property
    def is_exact(self) -> bool:
        """Two bytes of four are rounded away."""
        return False

    def specs(self, shape: Sequence[int]) -> dict[str, Spec]:
        """The array, half as long."""
        return {"": Spec("BF16", tuple(shape))}

    def encode(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """The upper halves of the values' bits, as uint16."""
        bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
        # Half a unit of the last place that stays, less one where that place is even: a tie goes to even.
        half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        return {"": ((bits + half) >> np.uint32(16)).astype(np.uint16).reshape(array.shape)}

    def decode(self, parts: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """Every bfloat16 is a float32 whose lower half is zero."""
        bits = np.ascontiguousarray(parts[""]).astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32).reshape(tuple(shape))


CODEC = BFloat16
