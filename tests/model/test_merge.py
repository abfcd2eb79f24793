"""An adapter merged into its base model: the numbers, the files, and what cannot be merged."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.model import merge
from fedmedlora.model.files import model_files
from fedmedlora.model.load import load_encoder
from fedmedlora.model.lora import attach_lora, read_adapter

IDS = torch.arange(24).reshape(2, 12)


def shape(targets="all-linear"):
    return {"rank": 2, "alpha": 6.0, "targets": targets}


def drawn(base, targets="all-linear", scale=0.3) -> Adapter:
    """A random adapter for ``base``, which is changed by this."""
    rng = np.random.default_rng(4)
    model = attach_lora(base.model, rank=2, alpha=6.0, targets=targets)
    start = read_adapter(model).arrays
    model.unload()
    return Adapter({n: rng.normal(scale=scale, size=a.shape).astype(np.float32) for n, a in start.items()})


def both(folder, adapter, targets="all-linear"):
    return merge.load_both(model_files(str(folder)), shape(targets), adapter)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt_neox", "gpt2"])
def test_the_merged_model_answers_as_base_and_adapter_do(load, model_folders, tmp_path, kind):
    adapter = drawn(load(kind))
    model = both(model_folders[kind], adapter)
    expected = model(IDS).logits
    assert merge.write_merged(model, model_files(str(model_folders[kind])), tmp_path, "base") == "float32"
    found = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(found(IDS).logits, expected, rtol=1e-4, atol=1e-4)
    plain = load(kind).model(IDS).logits
    assert (found(IDS).logits - plain).abs().max() > 0.1
    assert set(found.state_dict()) == set(load(kind).model.state_dict())


def test_one_weight_by_hand(load, model_folders):
    adapter = drawn(load(), ["q_proj"])
    weights = dict(merge.merged_weights(both(model_folders["llama"], adapter, ["q_proj"])))
    before = load().model.state_dict()
    name = "model.layers.1.self_attn.q_proj"
    a, b = (adapter.arrays[f"base_model.model.{name}.lora_{x}.weight"].astype(np.float64) for x in "AB")
    w = before[f"{name}.weight"].double().numpy()
    by_hand = w + 3.0 * b @ a  # alpha / rank = 6 / 2
    np.testing.assert_allclose(weights[f"{name}.weight"].numpy(), by_hand, rtol=1e-5, atol=1e-6)
    untouched = "model.layers.1.self_attn.k_proj.weight"
    assert torch.equal(weights[untouched], before[untouched])
    # The output head is the embedding, so it is there once.
    assert set(weights) == set(before) - {"lm_head.weight"}
    assert {n: tuple(w.shape) for n, w in weights.items()} == merge.weight_shapes(
        both(model_folders["llama"], adapter, ["q_proj"])
    )


@pytest.fixture
def half(model_folders, tmp_path):
    """A folder with the tiny llama in bfloat16."""
    model = AutoModelForCausalLM.from_pretrained(model_folders["llama"], dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "half")
    for path in model_folders["llama"].glob("tokenizer*"):
        (tmp_path / "half" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "half"


@pytest.mark.parametrize("precision", ["base", "float32", "bfloat16", "float16"])
def test_the_sum_is_rounded_once(load, half, tmp_path, precision):
    adapter = drawn(load(), scale=0.05)
    expected = dict(merge.merged_weights(both(half, adapter)))
    out = tmp_path / "out"
    found_precision = merge.write_merged(both(half, adapter), model_files(str(half)), out, precision)
    dtype = {"base": torch.bfloat16}.get(precision) or getattr(torch, precision)
    assert found_precision == str(dtype).removeprefix("torch.")
    found = load_file(out / "model.safetensors")
    assert {w.dtype for w in found.values()} == {dtype}
    assert all(torch.equal(w, expected[n].to(dtype)) for n, w in found.items() if n != "lm_head.weight")
    assert json.loads((out / "config.json").read_text())["dtype"] == found_precision
    if dtype == torch.bfloat16:  # rounding the adapter's part first would give other numbers
        name = "model.layers.0.mlp.down_proj.weight"
        before = load_file(half / "model.safetensors")[name]
        twice = before + (expected[name] - before.float()).bfloat16()
        assert not torch.equal(found[name], twice)
    again = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    assert again.dtype == dtype


def test_what_float16_cannot_hold_is_refused(load, model_folders, tmp_path):
    adapter = drawn(load(), scale=200.0)  # 3 * 2 * 200 * 200, often more than 65,504
    model = both(model_folders["llama"], adapter)
    with pytest.raises(
        ValueError, match=r"holds numbers that float16 cannot .* --precision float32 or bfloat16"
    ):
        merge.write_merged(model, model_files(str(model_folders["llama"])), tmp_path, "float16")
    assert list(tmp_path.iterdir()) == []


def test_sizes_out_of_the_headers(load, model_folders, half):
    num = sum(p.numel() for p in load().model.parameters())
    values, num_bytes = merge.size(model_files(str(model_folders["llama"])))
    assert values == num
    assert num_bytes == (model_folders["llama"] / "model.safetensors").stat().st_size
    assert merge.size(model_files(str(half)))[0] == num
    assert math.isclose(merge.size(model_files(str(half)))[1], num_bytes / 2, rel_tol=0.1)


def test_the_tokenizer_is_the_base_models_own(load, model_folders, tmp_path):
    folder = model_folders["llama"]
    merge.write_merged(both(folder, drawn(load())), model_files(str(folder)), tmp_path, "base")
    copied = [path.name for path in tmp_path.iterdir() if "token" in path.name or "generation" in path.name]
    assert len(copied) == 3
    for name in copied:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert load_encoder(str(tmp_path)).tokenizer_hash() == load().encoder.tokenizer_hash()
    for path in tmp_path.iterdir():
        assert str(folder).encode() not in path.read_bytes()


def test_generation_settings_that_contradict_themselves_are_taken_over(load, save_model, tmp_path):
    folder = save_model(tmp_path / "base")
    settings = '{"do_sample": false, "temperature": 0.3, "eos_token_id": [0, 1]}'
    (folder / "generation_config.json").write_text(settings)
    model = both(folder, drawn(load()))
    merge.write_merged(model, model_files(str(folder)), tmp_path / "out", "base")
    assert (tmp_path / "out" / "generation_config.json").read_text() == settings


def test_a_base_model_in_many_files(load, model_folders, tmp_path):
    folder = tmp_path / "sharded"
    load().model.save_pretrained(folder, max_shard_size="50KB")
    for path in model_folders["llama"].glob("tokenizer*"):
        (folder / path.name).write_bytes(path.read_bytes())
    assert len(list(folder.glob("*.safetensors"))) > 1
    adapter = drawn(load())
    expected = both(model_folders["llama"], adapter)(IDS).logits
    merge.write_merged(both(folder, adapter), model_files(str(folder)), tmp_path / "out", "base")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "out")(IDS).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 1  # transformers' own limit is 50 GB


def test_weights_of_few_bits_are_refused(save_model, tmp_path):
    folder = save_model(tmp_path / "base")
    merge.refuse_quantized(model_files(str(folder)))
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"quantized already \(gptq\).* export --to peft"):
        merge.refuse_quantized(model_files(str(folder)))


# PEFT's own warning, when it is trained.
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True` and a tied layer:UserWarning")
def test_a_head_that_is_the_embedding_cannot_be_merged(load, model_folders):
    assert load("llama").model.config.tie_word_embeddings
    adapter = drawn(load("llama"), ["lm_head"])
    with pytest.raises(ValueError, match="changes lm_head, which this model shares with its embedding"):
        both(model_folders["llama"], adapter, ["lm_head"])
    own = drawn(load("qwen2"), ["lm_head"])
    weights = dict(merge.merged_weights(both(model_folders["qwen2"], own, ["lm_head"])))
    assert not torch.equal(weights["lm_head.weight"], load("qwen2").model.lm_head.weight)


def test_an_adapter_of_another_model_is_refused(load, model_folders):
    with pytest.raises(ValueError, match="does not fit the model"):
        both(model_folders["llama"], drawn(load("gpt_neox")))


def test_a_model_that_cannot_be_loaded_is_said(load, save_model, tmp_path):
    folder = save_model(tmp_path / "base")
    files = model_files(str(folder))
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"base model .* cannot be loaded"):
        merge.load_both(files, shape(), drawn(load()))


def test_another_precision_of_the_base_is_named(tmp_path):
    config = LlamaConfig(
        vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    model = attach_lora(LlamaForCausalLM(config).to(torch.float64), rank=1, alpha=1.0)
    with pytest.raises(
        ValueError, match=r"are torch\.float64; choose --precision float32, bfloat16, float16"
    ):
        merge.base_precision(model)
