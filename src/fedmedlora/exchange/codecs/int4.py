"""Every value as a whole number from -7 to 7 times a float32 scale per 64 values: 0.563 bytes a value.

See ``exchange/blocks.py`` for the papers. A value comes back within 1/14 of its block's largest. The blocks
are as short as those of NF4 (Dettmers et al., https://arxiv.org/abs/2305.14314): with so few levels an
outlier costs its neighbours more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedmedlora.exchange.blocks import dequantize, num_blocks, quantize
from fedmedlora.exchange.codec import Spec

BLOCK, TOP = 64, 7
_ZERO = 8  # what stands for 0 in half a byte; 0 itself stands for nothing


@dataclass(frozen=True, slots=True)
class Int4:
    """No settings."""

    @property
    def is_exact(self) -> bool:
        """Values are rounded."""
        return False

    def specs(self, shape: Sequence[int]) -> dict[str, Spec]:
        """``numbers``: two per byte, in C order, the first in the lower half. ``scales``: one per block."""
        num = math.prod(shape)
        return {
            "numbers": Spec("U8", (-(-num // 2),)),
            "scales": Spec("F32", (num_blocks(num, BLOCK),)),
        }

    def encode(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """See ``blocks.quantize``."""
        numbers, scales = quantize(array, block=BLOCK, top=TOP)
        halves = np.full(numbers.size + numbers.size % 2, _ZERO, np.uint8)
        halves[: numbers.size] = numbers + _ZERO
        return {"numbers": halves[0::2] | halves[1::2] << 4, "scales": scales}

    def decode(self, parts: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """See ``blocks.dequantize``."""
        num = math.prod(shape)
        halves = np.empty(2 * parts["numbers"].size, np.uint8)
        halves[0::2], halves[1::2] = parts["numbers"] & 15, parts["numbers"] >> 4
        if (halves[num:] != _ZERO).any():
            raise ValueError("the half byte after the last value is not empty")
        numbers = halves[:num].astype(np.int8) - np.int8(_ZERO)
        return dequantize(numbers, parts["scales"], block=BLOCK, top=TOP).reshape(tuple(shape))


CODEC = Int4
