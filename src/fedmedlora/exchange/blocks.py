"""Values as small whole numbers times a scale per block: what ``int8`` and ``int4`` share.

Block-wise quantization: Dettmers et al., "8-bit Optimizers via Block-wise Quantization",
https://arxiv.org/abs/2110.02861, section 2.1: an array is cut into blocks in C order, and each block is
normalized by its largest absolute value, so that an outlier costs precision in its own block only. Departs in
the levels, which are evenly spaced around zero as in QSGD (Alistarh et al., https://arxiv.org/abs/1610.02132,
section 3.1), and not a dynamic tree; and from QSGD in the rounding, which is to the nearest level and not
random: what is lost is kept by the sender and sent later.
"""

from __future__ import annotations

import numpy as np

SMALLEST = 2.0**-100  # a block without a larger value is sent as zeros: its scale would lose its own digits


def num_blocks(num_values: int, block: int) -> int:
    """Blocks of ``block`` values that hold ``num_values``; the last may be shorter."""
    return -(-num_values // block)


def quantize(array: np.ndarray, *, block: int, top: int) -> tuple[np.ndarray, np.ndarray]:
    """(whole numbers from -``top`` to ``top``, int8, one per value; scales, float32, one per block).

    A value is its number times its block's scale, and off by half a scale at most. A scale is the block's
    largest absolute value divided by ``top``. Ties of rounding go to the even number.
    """
    values = array.reshape(-1)
    padded = np.zeros((num_blocks(values.size, block), block), np.float32)
    padded.reshape(-1)[: values.size] = values
    largest = np.maximum(padded.max(axis=1, initial=0), -padded.min(axis=1, initial=0))
    scales = np.where(largest < SMALLEST, 0, largest / np.float32(top)).astype(np.float32)
    padded /= np.where(scales == 0, 1, scales)[:, None]  # of zeros, or of values that round to zero
    np.rint(padded, out=padded)
    np.clip(padded, -top, top, out=padded)  # the division may have rounded up
    return padded.reshape(-1)[: values.size].astype(np.int8), scales


def dequantize(numbers: np.ndarray, scales: np.ndarray, *, block: int, top: int) -> np.ndarray:
    """The float32 values of ``numbers``. Raises ``ValueError`` for what ``quantize`` does not write."""
    if not (np.isfinite(scales) & ~np.signbit(scales)).all():
        raise ValueError("a scale is negative, infinite or NaN")
    if numbers.size and (numbers.max() > top or numbers.min() < -top):
        raise ValueError(f"a whole number is beyond {top}")
    padded = np.zeros((scales.size, block), np.float32)
    padded.reshape(-1)[: numbers.size] = numbers
    with np.errstate(over="ignore"):  # of a scale that no sender writes; refused by who asked
        padded *= scales[:, None]
    return padded.reshape(-1)[: numbers.size]
