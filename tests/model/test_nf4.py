"""QLoRA's parts on a CPU: bitsandbytes has 4-bit layers there too, slow ones that the program refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedmedlora.model.load import load_base_model, nf4
from fedmedlora.model.lora import attach_lora, read_adapter
from fedmedlora.model.weights import write_weights
from fedmedlora.training.site import LocalTraining, train_round, validation_loss

SETTINGS = LocalTraining(
    num_rounds=1, examples_per_step=4, micro_batch=2, learning_rate=2e-2, warmup_steps=0, steps=4
)


@pytest.fixture
def small(model_folders, monkeypatch):
    """The tiny model in NF4, by the settings that are used on a GPU, as a ``BaseModel``."""
    pytest.importorskip("bitsandbytes")
    from bitsandbytes.nn import modules
    from transformers import AutoModelForCausalLM

    # CPUs that are fast in bfloat16 would pack the weights once more, for wider layers than these.
    monkeypatch.setattr(modules, "has_avx512bf16", lambda: False)

    whole = load_base_model(str(model_folders["llama"]), precision="float32")
    model = AutoModelForCausalLM.from_pretrained(
        model_folders["llama"],
        dtype=torch.float32,
        quantization_config=nf4(torch.float32),
        device_map={"": "cpu"},
    )
    model.requires_grad_(False)
    return whole, replace(whole, model=model.eval(), quantization="nf4")


def linear(model) -> dict[str, torch.nn.Module]:
    return {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}


def test_settings_are_qloras():
    how = nf4(torch.bfloat16)
    assert (how.load_in_4bit, how.bnb_4bit_quant_type, how.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert how.bnb_4bit_compute_dtype == torch.bfloat16


def test_layers_are_packed_and_multiply_as_their_unpacked_weights(small):
    from bitsandbytes.functional import dequantize_4bit

    _, base = small
    packed = {n: m for n, m in linear(base.model).items() if type(m).__name__ == "Linear4bit"}
    assert set(packed) == set(linear(base.model)) - {"lm_head"}
    for name, layer in packed.items():
        state = layer.weight.quant_state
        assert state.quant_type == "nf4", name
        assert state.nested, f"{name}: the blocks' constants are quantized too"
        assert layer.weight.numel() == layer.in_features * layer.out_features / 2, "two weights a byte"
        unpacked = dequantize_4bit(layer.weight, state)
        rows = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(layer(rows), rows @ unpacked.T, atol=1e-4), name


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU:UserWarning")
@pytest.mark.parametrize("optimizer", ["adamw", "paged_adamw", "paged_adamw_8bit"])
def test_an_adapter_trains_over_four_bits(small, step_examples, optimizer):
    whole, base = small
    packed = {n: p.detach().clone() for n, p in base.model.named_parameters()}
    model = attach_lora(base.model, rank=2, alpha=4.0, seed=3)
    start = read_adapter(model)
    how = replace(SETTINGS, optimizer=optimizer)
    before = validation_loss(base, model, start, step_examples, how)
    result = train_round(base, model, start, step_examples, how, site="a", round_num=1, seed=0)
    assert validation_loss(base, model, result.adapter, step_examples, how) < before - 0.1
    now = dict(base.model.named_parameters())
    for name, tensor in packed.items():
        here = now.get(name, now.get(name.replace(".weight", ".base_layer.weight")))
        assert torch.equal(here, tensor), f"{name} is frozen"
    # What travels is read over the full weights as well: the same names, the same shapes.
    other = attach_lora(whole.model, rank=2, alpha=4.0, seed=3)
    write_weights(whole, other, result.adapter)
    assert np.isfinite(validation_loss(whole, other, result.adapter, step_examples, how))
