"""Which attention a model computes with: the fused kernel, or plain matrix products.

The fused kernel (Dao et al., FlashAttention, arXiv:2205.14135) keeps no matrix of scores, and is what
transformers takes by itself. On a CPU, torch's has no fast way backward in bfloat16: plain products take
less time there, and for the few hundred tokens of a sentence the scores are a small part of the memory.
``benchmarks/precision.py`` measures both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def set_attention(model: Any, *, is_cpu: bool, precision: str) -> None:
    """Let ``model`` (transformers') compute attention the way that is fast on the device in ``precision``."""
    if is_cpu and precision == "bfloat16":
        model.set_attn_implementation("eager")


@contextmanager
def attention_as_on(model: Any, *, is_cpu: bool, precision: str) -> Iterator[None]:
    """Within the block ``model`` stands as on that device; afterwards as before."""
    before = model.config._attn_implementation
    set_attention(model, is_cpu=is_cpu, precision=precision)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
