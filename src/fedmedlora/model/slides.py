"""Models whose layers do not all see everything: their caches hold less than ours show them."""

from __future__ import annotations

from typing import Any


def slides(model: Any) -> bool:
    """Whether some layer attends to less than everything before a token (a sliding window, chunks)."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return any(kind != "full_attention" for kind in kinds)
    return getattr(config, "sliding_window", None) is not None
