"""Every value as a whole number from -127 to 127 times a float32 scale per 256 values: 1.016 bytes a value.

See ``exchange/blocks.py`` for the papers. A value comes back within 1/254 of its block's largest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedmedlora.exchange.blocks import dequantize, num_blocks, quantize
from fedmedlora.exchange.codec import Spec

BLOCK, TOP = 256, 127


@dataclass(frozen=True, slots=True)
class Int8:
    """No settings."""

    @property
    def is_exact(self) -> bool:
        """Values are rounded."""
        return False

    def specs(self, shape: Sequence[int]) -> dict[str, Spec]:
        """``numbers``: one per value. ``scales``: one per block."""
        blocks = num_blocks(math.prod(shape), BLOCK)
        return {"numbers": Spec("I8", tuple(shape)), "scales": Spec("F32", (blocks,))}

    def encode(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """See ``blocks.quantize``."""
        numbers, scales = quantize(array, block=BLOCK, top=TOP)
        return {"numbers": numbers.reshape(array.shape), "scales": scales}

    def decode(self, parts: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """See ``blocks.dequantize``."""
        found = dequantize(parts["numbers"].reshape(-1), parts["scales"], block=BLOCK, top=TOP)
        return found.reshape(tuple(shape))


CODEC = Int8
