"""Keys and values of many rows in one pool: a cache for rows that advance on their own.

The tokens of all rows stand one after the other in a single row of the model's batch, so rows of different
length need no padding. Each entry of the pool belongs to a row and a position; the mask shows a token
the shared prefix and the entries of its own row up to its own position. Entries of tokens that were
thrown away, and of rows that are finished, are simply used again.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from fedmedlora.model.cache import Prefix

_FREE = -1
_SHARED = -2


class _PoolLayer(CacheLayerMixin):
    """One layer's entries, (1, heads, capacity, head_dim): written at ``slots``, read up to ``extent``."""

    is_sliding = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys.clone(), values.clone()
        self.slots = torch.empty(0, dtype=torch.long)
        self.extent = keys.shape[-2]
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        pass

    def reserve(self, capacity: int) -> None:
        """Make room for ``capacity`` entries."""
        assert self.keys is not None
        assert self.values is not None
        missing = capacity - self.keys.shape[-2]
        if missing > 0:
            self.keys = torch.nn.functional.pad(self.keys, (0, 0, 0, missing))
            self.values = torch.nn.functional.pad(self.values, (0, 0, 0, missing))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.keys is not None
        assert self.values is not None
        self.keys.index_copy_(2, self.slots, key_states)
        self.values.index_copy_(2, self.slots, value_states)
        return self.keys[:, :, : self.extent], self.values[:, :, : self.extent]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.extent, 0

    def get_seq_length(self) -> int:
        return self.extent

    def get_max_length(self) -> int:
        return -1


class Pool:
    """A pool that begins with a shared ``prefix``.

    A token is an entry ``(row, position)``: ``row`` a number >= 0 of the caller's, ``position`` counted
    from the start of the prefix.
    """

    def __init__(self, prefix: Prefix) -> None:
        """``prefix`` is copied."""
        self._layers = [_PoolLayer(k, v) for k, v in zip(prefix.keys, prefix.values, strict=True)]
        self.cache = Cache(layers=self._layers)
        self._rows = np.full(prefix.num_tokens, _SHARED)
        self._positions = np.zeros(prefix.num_tokens, dtype=np.int64)
        self._unused: list[int] = []  # a heap: low entries first, so that the pool stays short
        self._device, self._dtype = prefix.keys[0].device, prefix.keys[0].dtype

    def place(self, rows: Sequence[int], positions: Sequence[int]) -> tuple[list[int], torch.Tensor]:
        """Entries for the tokens of the next pass, and the pass's mask.

        The mask is additive, (1, 1, num_tokens, entries), in the model's precision. The next forward pass
        with ``cache`` has to feed exactly these tokens.
        """
        self._grow(len(rows))
        slots = [heapq.heappop(self._unused) for _ in rows]
        self._rows[slots], self._positions[slots] = rows, positions
        extent = int(np.flatnonzero(self._rows != _FREE)[-1]) + 1
        slot_ids = torch.tensor(slots, device=self._device)
        for layer in self._layers:
            layer.slots, layer.extent = slot_ids, extent
        return slots, self._mask(rows, positions, extent)

    def release(self, slots: Sequence[int]) -> None:
        """Give entries back; no later token sees them."""
        self._rows[list(slots)] = _FREE
        for slot in slots:
            heapq.heappush(self._unused, slot)

    def _grow(self, needed: int) -> None:
        if len(self._unused) >= needed:
            return
        capacity = len(self._rows)
        # Doubled, so that a pool that grows token by token is not copied at every pass.
        more = max(needed, capacity)
        self._rows = np.concatenate([self._rows, np.full(more, _FREE)])
        self._positions = np.concatenate([self._positions, np.zeros(more, dtype=np.int64)])
        for slot in range(capacity, capacity + more):
            heapq.heappush(self._unused, slot)
        for layer in self._layers:
            layer.reserve(capacity + more)

    def _mask(self, rows: Sequence[int], positions: Sequence[int], extent: int) -> torch.Tensor:
        # (2, tokens) and (2, entries): row and position
        asks = torch.tensor([rows, positions], device=self._device)
        has = torch.from_numpy(np.stack([self._rows[:extent], self._positions[:extent]])).to(self._device)
        own = (has[0] == asks[0][:, None]) & (has[1] <= asks[1][:, None])
        hidden = ~(own | (has[0] == _SHARED))
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=self._device)
        mask.masked_fill_(hidden, torch.finfo(self._dtype).min)
        return mask[None, None]
