"""transformers' configuration as llama.cpp's keys; what llama.cpp would compute otherwise is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import GPT2Config, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from fedmedlora.model.gguf_layout import interleave, layout, tensor_names

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def test_the_keys_of_a_llama_by_hand():
    found = layout(LlamaConfig(**SIZES, rms_norm_eps=1e-5))
    assert found.architecture == "llama"
    assert found.num_blocks == 2
    assert found.keys == {
        "llama.context_length": 4096,
        "llama.embedding_length": 32,
        "llama.block_count": 2,
        "llama.feed_forward_length": 48,
        "llama.vocab_size": 50,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 8,  # 32 / 4
        "llama.attention.value_length": 8,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": 8,
        "llama.rope.freq_base": 10000.0,
    }
    assert found.interleaved == (("q_proj", 4), ("k_proj", 2))
    assert found.rope_factors == ()


@pytest.mark.parametrize(("kind", "name"), [(Qwen2Config, "qwen2"), (Qwen3Config, "qwen3")])
def test_qwens_rows_stay_where_they_are(kind, name):
    found = layout(kind(**SIZES))
    assert found.architecture == name
    assert found.keys[f"{name}.attention.head_count"] == 4
    assert found.interleaved == ()
    assert layout(Qwen3Config(**SIZES, head_dim=16)).keys["qwen3.attention.key_length"] == 16


@pytest.mark.parametrize(("window", "expected"), [(None, 4096), (128, 128), (8192, 4096)])
def test_a_sliding_window_ends_the_context(window, expected):
    found = layout(MistralConfig(**SIZES, sliding_window=window))
    assert found.architecture == "llama"
    assert found.keys["llama.context_length"] == expected


def test_linear_scaling():
    asked = {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}
    found = layout(Qwen2Config(**SIZES, rope_parameters=asked)).keys
    assert found["qwen2.rope.freq_base"] == 500.0
    assert (found["qwen2.rope.scaling.type"], found["qwen2.rope.scaling.factor"]) == ("linear", 4.0)


def test_llama_3s_factors_are_those_of_transformers():
    config = LlamaConfig(**SIZES, rope_parameters=LLAMA3)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 10000.0 ** (-torch.arange(0, 8, 2) / 8)
    found = layout(config).rope_factors
    # 64 / 2 pi waves of the first frequency are 10, above 4: not slowed down; of the last 0.01: 8 times.
    assert found[0] == 1.0
    assert found[-1] == 8.0
    assert 1.0 < found[1] < 8.0
    np.testing.assert_allclose(found, (plain / scaled).numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            GPT2Config(),
            "architecture 'gpt2': GGUF is written for llama, mistral, qwen2, qwen3; export --to merged",
        ),
        (LlamaConfig(**SIZES, hidden_act="gelu"), "hidden_act 'gelu'"),
        (
            LlamaConfig(**SIZES, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
            "rope_type 'dynamic'",
        ),
        (Qwen2Config(**SIZES, rope_parameters=LLAMA3), "rope_type 'llama3'"),
        (
            LlamaConfig(
                **SIZES,
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 1e4,
                    "partial_rotary_factor": 0.5,
                },
            ),
            "partial_rotary_factor",
        ),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        layout(config)


def test_rows_of_q_and_k_change_places_within_a_head():
    model = layout(LlamaConfig(**SIZES | {"hidden_size": 16}))  # 4 heads and 2, of 4 rows each
    rows = np.arange(16, dtype=np.float32)
    by_hand = [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15]
    name = "model.layers.0.self_attn.q_proj"
    assert interleave(model, f"{name}.bias", rows).tolist() == by_hand
    matrix = np.stack([rows, rows + 100], axis=1)  # (16, 2)
    assert interleave(model, f"{name}.weight", matrix)[:, 1].tolist() == [i + 100 for i in by_hand]
    keys = interleave(model, "model.layers.1.self_attn.k_proj.weight", matrix[:8])
    assert keys[:, 0].tolist() == by_hand[:8]
    for other in ("model.layers.0.self_attn.v_proj.weight", "model.embed_tokens.weight"):
        assert interleave(model, other, matrix) is matrix


def test_names_and_what_has_no_place():
    llama, qwen2 = layout(LlamaConfig(**SIZES)), layout(Qwen2Config(**SIZES))
    asked = ["model.embed_tokens.weight", "model.layers.1.self_attn.q_proj.bias", "lm_head.weight"]
    expected = ["token_embd.weight", "blk.1.attn_q.bias", "output.weight"]
    assert list(tensor_names(llama, asked).values()) == expected
    assert tensor_names(qwen2, asked) == dict(zip(asked, expected, strict=True))
    for model, name in (
        (qwen2, "model.layers.0.self_attn.o_proj.bias"),  # llama.cpp has no such bias in a Qwen
        (llama, "model.layers.2.self_attn.q_proj.weight"),  # a third layer of two
        (llama, "model.layers.0.surprise.weight"),
    ):
        with pytest.raises(ValueError, match=f"weight {name}: llama.cpp has no place for it"):
            tensor_names(model, [name])
