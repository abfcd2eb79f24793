"""Which rows go through the model together: as few tokens of padding and as few passes as pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Row = TypeVar("Row")


def pass_tokens_of(device: torch.device) -> int:
    """What a forward pass costs on ``device``, whatever is in it, in tokens that it could compute meanwhile.

    On a CPU a few; a GPU launches the same kernels for one row as for all, so it is worth filling.
    """
    return 32 if device.type == "cpu" else 4096


def micro_batches(
    rows: Sequence[Row],
    size: int,
    *,
    pass_tokens: int,
    length: Callable[[Row], int] = len,  # type: ignore[assignment]
) -> list[Sequence[Row]]:
    """``rows``, longest first, in consecutive slices of at most ``size``, so cut that they cost least.

    A slice is padded to its first row, and costs ``pass_tokens`` on top; ``length``: tokens of a row. The
    cheapest of all ways to cut: dynamic programming over where the last slice begins.
    """
    lengths = [length(row) for row in rows]
    costs, begins = [0], [0]
    for end in range(1, len(lengths) + 1):
        cost, begin = min(
            (costs[begin] + (end - begin) * lengths[begin] + pass_tokens, begin)
            for begin in range(max(0, end - size), end)
        )
        costs.append(cost)
        begins.append(begin)
    found: list[Sequence[Row]] = []
    end = len(lengths)
    while end:
        found.append(rows[begins[end] : end])
        end = begins[end]
    return found[::-1]
