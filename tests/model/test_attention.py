"""bfloat16 on a CPU computes attention in plain products: the same numbers."""

from __future__ import annotations

import pytest
import torch

from fedmedlora.model.attention import attention_as_on
from fedmedlora.model.load import load_base_model
from fedmedlora.model.lora import attach_lora
from fedmedlora.training.batches import shared_prefix_step


@pytest.mark.parametrize(("precision", "kernel"), [("float32", "sdpa"), ("bfloat16", "eager")])
def test_the_kernel_goes_with_the_precision(model_folders, precision, kernel):
    model = load_base_model(str(model_folders["llama"]), precision=precision).model
    assert model.config._attn_implementation == kernel


def test_a_model_stands_as_before_after_the_block(build):
    model = build("llama", 0)
    before = model.config._attn_implementation
    with attention_as_on(model, is_cpu=True, precision="bfloat16"):
        assert model.config._attn_implementation == "eager"
    assert model.config._attn_implementation == before == "sdpa"


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt_neox"])
def test_both_ways_give_the_same_loss_and_gradient(build, step_examples, kind):
    model = attach_lora(build(kind, 1), rank=2, alpha=4.0)
    found = {}
    for kernel in ("sdpa", "eager"):
        model.get_base_model().set_attn_implementation(kernel)
        model.zero_grad(set_to_none=True)
        loss = shared_prefix_step(
            model,
            step_examples,
            pad_id=0,
            device=torch.device("cpu"),
            micro_batch=4,
            loss="lm+decision",
            decision_weight=1.0,
        )
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found[kernel] = loss, gradients
    (one, of_one), (other, of_other) = found.values()
    assert one == pytest.approx(other, rel=1e-5)
    assert of_one.keys() == of_other.keys()
    assert any(gradient.abs().max() > 0 for gradient in of_one.values())
    for name, gradient in of_one.items():
        assert (gradient - of_other[name]).abs().max() <= 1e-5 + 1e-3 * gradient.abs().max(), name
