"""How llama.cpp names and lays out a model: GGUF's keys out of transformers' configuration.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Written for models of LLaMA's kind
whose every detail llama.cpp computes the same way; whatever else a configuration asks for is refused, for a
file that is read without a complaint and answers wrongly is worse than none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Key = int | float | str

# transformers' name of an architecture -> llama.cpp's, and the layers that may have a bias there.
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ARCHITECTURES = {
    "llama": ("llama", (*_ATTENTION, "gate_proj", "up_proj", "down_proj")),
    "mistral": ("llama", ()),
    "qwen2": ("qwen2", ("q_proj", "k_proj", "v_proj")),
    "qwen3": ("qwen3", ()),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """``keys``: GGUF's, by full name. ``interleaved``: (layer's name, heads) whose rows change places.

    ``rope_factors``: what each of head_dim / 2 frequencies is divided by; empty: nothing.
    """

    architecture: str
    num_blocks: int
    keys: Mapping[str, Key]
    biases: tuple[str, ...]
    interleaved: tuple[tuple[str, int], ...]
    rope_factors: tuple[float, ...] = ()


def layout(config: Any) -> Layout:
    """``config``: transformers' own. Raises ``ValueError`` for a model that cannot be written faithfully."""
    kind = config.model_type
    if kind not in ARCHITECTURES:
        raise _refused(f"architecture {kind!r}: GGUF is written for {', '.join(ARCHITECTURES)}")
    if config.hidden_act != "silu":
        raise _refused(f"hidden_act {config.hidden_act!r}: llama.cpp computes silu in these models")
    architecture, biases = ARCHITECTURES[kind]
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    # Beyond a sliding window llama.cpp would attend to more than the model does, up to it to the same.
    positions = min(config.max_position_embeddings, getattr(config, "sliding_window", None) or math.inf)
    rope, factors = _rope(config.rope_parameters, head_dim, architecture)
    keys: dict[str, Key] = {
        "context_length": int(positions),
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "vocab_size": config.vocab_size,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": head_dim,
        **rope,
    }
    return Layout(
        architecture=architecture,
        num_blocks=config.num_hidden_layers,
        keys={f"{architecture}.{name}": value for name, value in keys.items()},
        biases=biases,
        interleaved=(("q_proj", heads), ("k_proj", kv_heads)) if architecture == "llama" else (),
        rope_factors=factors,
    )


def tensor_names(model: Layout, names: Iterable[str]) -> dict[str, str]:
    """transformers' names -> llama.cpp's. Raises ``ValueError`` for one that llama.cpp would not look for."""
    import gguf

    kind = next(k for k, name in gguf.MODEL_ARCH_NAMES.items() if name == model.architecture)
    known = gguf.get_tensor_name_map(kind, model.num_blocks)
    found = {}
    for name in names:
        target = known.get_name(name, try_suffixes=(".weight", ".bias"))
        layer, _, part = name.rpartition(".")
        if target is None or (part == "bias" and layer.rpartition(".")[2] not in model.biases):
            raise _refused(f"weight {name}: llama.cpp has no place for it in a {model.architecture!r}")
        found[name] = target
    return found


def interleave(model: Layout, name: str, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``rows`` (d_out, ...) of the weight ``name`` in llama.cpp's order.

    Rotary embeddings turn pairs of a head's numbers. transformers pairs the i-th of the first half with the
    i-th of the second, llama.cpp's "llama" neighbours. So, where a head has rows 0 1 2 3: 0 2 1 3.
    """
    for layer, heads in model.interleaved:
        if name.endswith((f".{layer}.weight", f".{layer}.bias")):
            halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
            return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))
    return rows


def _rope(
    asked: Mapping[str, Any], head_dim: int, architecture: str
) -> tuple[dict[str, Key], tuple[float, ...]]:
    """(GGUF's keys, factors) of rotary embeddings (Su et al., arXiv:2104.09864)."""
    kind, theta = asked.get("rope_type", "default"), float(asked["rope_theta"])
    keys: dict[str, Key] = {"rope.freq_base": theta}
    if float(asked.get("partial_rotary_factor") or 1.0) != 1.0:
        raise _refused("partial_rotary_factor: llama.cpp turns the whole of a head in these models")
    if kind == "default":
        return keys, ()
    if kind == "linear":
        scaled: dict[str, Key] = {
            "rope.scaling.type": "linear",
            "rope.scaling.factor": float(asked["factor"]),
        }
        return keys | scaled, ()
    if kind == "llama3" and architecture == "llama":
        return keys, _llama3_factors(asked, theta, head_dim)
    raise _refused(f"rope_type {kind!r}: written are default, linear, and llama3 of llama")


def _llama3_factors(asked: Mapping[str, Any], theta: float, head_dim: int) -> tuple[float, ...]:
    """Llama 3.1's: long waves are slowed down by ``factor``, short ones are not, and between them it fades.

    https://github.com/huggingface/transformers/blob/main/src/transformers/modeling_rope_utils.py, "llama3".
    """
    factor, low, high = (float(asked[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    trained = float(asked["original_max_position_embeddings"])
    found = []
    for i in range(0, head_dim, 2):
        waves = trained * theta ** (-i / head_dim) / (2 * math.pi)  # that fit into what it was trained on
        share = min(max((waves - low) / (high - low), 0.0), 1.0)
        found.append(1 / ((1 - share) / factor + share))
    return tuple(found)


def _refused(why: str) -> ValueError:
    return ValueError(
        f"{why}; export --to merged, and let llama.cpp's own convert_hf_to_gguf.py try that folder"
    )
