"""The weighted mean of adapters that come one by one: the same bits as ``at_once.py``, in any order."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from fedmedlora.aggregation.at_once import total_of
from fedmedlora.aggregation.exact_sum import BLOCK, ExactBlock, Scratch
from fedmedlora.aggregation.threads import in_parts
from fedmedlora.exchange.adapter import Adapter


class MeanSoFar:
    """Keeps 16 bytes a parameter at most, however many adapters come."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """``shapes``: of the adapters' arrays, by name."""
        self._shapes = dict(shapes)
        self._blocks: dict[str, list[ExactBlock]] = {
            name: [ExactBlock(min(BLOCK, prod(shape) - start)) for start in range(0, prod(shape), BLOCK)]
            for name, shape in shapes.items()
        }
        self._weights: list[float] = []

    def add(self, adapter: Adapter, weight: float) -> None:
        """Fold ``adapter`` in, whose values are finite; ``weight`` is above 0."""
        assert weight > 0

        def work(scratch: Scratch, name: str, start: int, stop: int) -> None:
            flat = adapter.arrays[name].reshape(-1)
            for first in range(start, stop, BLOCK):
                self._blocks[name][first // BLOCK].add(flat[first : first + BLOCK], weight, scratch)

        in_parts(self._shapes, Scratch, work)
        self._weights.append(weight)

    def mean(self) -> Adapter:
        """The mean of all that were added, at least one."""
        total = total_of(self._weights)
        found = {name: np.empty(shape, np.float32) for name, shape in self._shapes.items()}

        def work(room: None, name: str, start: int, stop: int) -> None:
            flat = found[name].reshape(-1)
            for first in range(start, stop, BLOCK):
                sums = self._blocks[name][first // BLOCK].total()
                np.divide(sums, total, out=flat[first : first + BLOCK], casting="same_kind")

        in_parts(self._shapes, lambda: None, work)
        return Adapter(found)
