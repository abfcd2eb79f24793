"""Bounds on how much faster training can be, from counting multiply-adds on both sides.

Of the linear layers, the output head and attention. Backward is a constant number of forward passes on both
sides, so it divides out; LoRA's own products are left out, and padding too, which only the other side has
much of: measured ratios may pass the bound by what padding costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def bound(config: Any, examples: Sequence[Any], *, all_logits: bool) -> float:
    """Operations of rows with their whole prompts over those of a step that runs a shared prompt once.

    ``config``: transformers', of a model with gated linear layers. ``all_logits``: the other side computes
    the output head at every position; if not, where a loss is taken.
    """
    prefix = len(examples[0].prefix)
    head_dim = config.hidden_size // config.num_attention_heads
    kv_width = head_dim * config.num_key_value_heads
    layer = config.hidden_size * (2 * config.hidden_size + 2 * kv_width + 3 * config.intermediate_size)
    body = layer * config.num_hidden_layers  # multiply-adds per token
    head = config.hidden_size * config.vocab_size

    def attention(tokens: int, before: int) -> float:
        """Multiply-adds of ``tokens`` that see ``before`` earlier ones and half of themselves."""
        return 2 * config.num_hidden_layers * config.hidden_size * tokens * (before + tokens / 2)

    padded = sum(
        body * (prefix + len(e))
        + attention(prefix + len(e), 0)
        + head * (prefix + len(e) if all_logits else len(e.target))
        for e in examples
    )
    shared = (
        body * prefix
        + attention(prefix, 0)
        + sum(body * len(e) + attention(len(e), prefix) + head * len(e.target) for e in examples)
    )
    return padded / shared
