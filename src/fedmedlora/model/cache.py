"""Key-value caches of our own, behind transformers' cache interface.

``record_prefix`` runs a prompt prefix once and keeps its keys and values; ``prefix_cache`` shows them to
the rows of a batch without storing anything, so that gradient checkpointing may run a layer twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(frozen=True)
class Prefix:
    """Keys and values of a prefix, one pair per layer, each (1, num_heads, prefix_tokens, head_dim).

    Read with K adapters (``several.py``), the first axis is K.
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]

    @property
    def num_tokens(self) -> int:
        """Length of the prefix, tokens."""
        return self.keys[0].shape[-2]

    def detached(self) -> Prefix:
        """Leaves with the same values that collect the gradient of everything that looks at them."""
        return Prefix(
            tuple(k.detach().requires_grad_(k.requires_grad) for k in self.keys),
            tuple(v.detach().requires_grad_(v.requires_grad) for v in self.values),
        )


class _RecordingLayer(CacheLayerMixin):
    """Remembers the last keys and values it was given; running a layer again overwrites, never appends."""

    is_sliding = False

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values = key_states, value_states
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


class _PrefixLayer(CacheLayerMixin):
    """Puts the prefix before the new keys and values of every row, and keeps nothing."""

    is_sliding = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        pass

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.keys is not None
        assert self.values is not None
        rows = key_states.shape[0]
        keys = torch.cat([_for_rows(self.keys, rows), key_states], dim=-2)
        values = torch.cat([_for_rows(self.values, rows), value_states], dim=-2)
        return keys, values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        assert self.keys is not None
        return self.keys.shape[-2]

    def get_max_length(self) -> int:
        return -1


def _for_rows(states: torch.Tensor, rows: int) -> torch.Tensor:
    """Of each of K prefixes a view for every one of its ``rows / K`` rows."""
    if len(states) == 1:
        return states.expand(rows, -1, -1, -1)
    return states.repeat_interleave(rows // len(states), dim=0)


def recording_cache(num_layers: int) -> Cache:
    """An empty cache that records one pass."""
    return Cache(layers=[_RecordingLayer() for _ in range(num_layers)])


def record_prefix(
    model: Any, prefix_ids: tuple[int, ...], device: torch.device, *, num_adapters: int = 1
) -> Prefix:
    """Run the prefix once (with gradient, where grad is enabled) and keep its keys and values.

    ``num_adapters``: once with each adapter of ``several.py``.
    """
    cache = recording_cache(num_layers(model))
    ids = torch.tensor([prefix_ids] * num_adapters, device=device)
    # The head is not needed: the first answer token is predicted from behind the prefix.
    decoder(model)(input_ids=ids, past_key_values=cache, use_cache=True)
    return Prefix(tuple(layer.keys for layer in cache.layers), tuple(layer.values for layer in cache.layers))


def prefix_cache(prefix: Prefix) -> Cache:
    """A cache that shows ``prefix`` to every row of a batch of any size."""
    layers = [_PrefixLayer(k, v) for k, v in zip(prefix.keys, prefix.values, strict=True)]
    return Cache(layers=layers)


def num_layers(model: Any) -> int:
    """Decoder layers of a model (PEFT-wrapped or not)."""
    count: int = model.config.get_text_config().num_hidden_layers
    return count


def num_positions(model: Any) -> float:
    """Positions that a model can look at, prompt and answer together; infinite where it names no limit."""
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return float("inf") if most is None else most


def decoder(model: Any) -> Any:
    """The transformer without its output head."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.get_decoder()
