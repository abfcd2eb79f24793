"""Memory of a step on shapes alone: what a real step on real tensors keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedmedlora.model.attention import attention_as_on
from fedmedlora.model.load import load_base_model
from fedmedlora.model.lora import attach_lora, read_adapter
from fedmedlora.plan.memory import (
    CONTEXT_BYTES,
    HEAP_FACTOR,
    HEAP_FACTOR_CHECKPOINTED,
    on_device,
    quantized,
)
from fedmedlora.plan.shapes import find_config, meta_base, num_in, shape_model
from fedmedlora.plan.trace import LiveBytes, StepTrace, trace_step, trace_validation
from fedmedlora.study_tables import Lora
from fedmedlora.training.site import LocalTraining, gradient_checkpointing, optimizer_step
from fedmedlora.training.validation import AT_ONCE, validation_losses

HOW = LocalTraining(num_rounds=1, examples_per_step=7, micro_batch=4, pass_tokens=32)


def traced(folder, examples, how=HOW, trains="both", precision="float32"):
    shapes = shape_model(find_config(str(folder)), Lora(rank=2, alpha=4.0), precision)
    return shapes, trace_step(meta_base(shapes), shapes.model, examples, how, trains)


class LiveHere(LiveBytes):
    """The same count over tensors that are really there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(one, torch.Tensor) and one.dim():
                self._add(one)
        return out


def really(base, examples, how):
    """Peak of a real second step beyond what stays, by the same count."""
    model = attach_lora(base.model, rank=2, alpha=4.0)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=False)
    model.train()
    if how.gradient_checkpointing:
        gradient_checkpointing(model, True)
    live = LiveHere([*model.parameters(), *model.buffers()])
    with live:
        optimizer_step(base, model, examples, how, optimizer, 0.0, ())
        optimizer.zero_grad(set_to_none=True)
        before = live.now
        live.restart()
        optimizer_step(base, model, examples, how, optimizer, 0.0, ())
    return live.peak - before


@pytest.mark.parametrize(
    "change",
    [{}, {"micro_batch": 1}, {"batching": "padded"}, {"loss": "lm"}, {"gradient_checkpointing": True}],
    ids=str,
)
def test_a_step_on_shapes_keeps_what_a_real_one_keeps(load, model_folders, step_examples, change):
    how = replace(HOW, **change)
    _, trace = traced(model_folders["llama"], step_examples, how)
    assert trace.step_bytes == pytest.approx(really(load("llama"), step_examples, how), rel=0.02)


def test_in_bfloat16_on_a_cpu_scores_are_kept(model_folders, step_examples):
    shapes, fused = traced(model_folders["llama"], step_examples, precision="bfloat16")
    with attention_as_on(meta_base(shapes).model, is_cpu=True, precision="bfloat16"):
        plain = trace_step(meta_base(shapes), shapes.model, step_examples, HOW)
    base = load_base_model(str(model_folders["llama"]), precision="bfloat16")
    assert plain.step_bytes == pytest.approx(really(base, step_examples, HOW), rel=0.02)
    assert plain.step_bytes > 1.02 * fused.step_bytes


@pytest.mark.parametrize("num_adapters", [1, 3])
def test_validating_on_shapes_keeps_what_it_keeps_on_numbers(
    load, model_folders, step_examples, num_adapters
):
    base = load("llama")
    model = attach_lora(base.model, rank=2, alpha=4.0)
    live = LiveHere([*model.parameters(), *model.buffers()])
    before = live.now
    adapters = [read_adapter(model)] * num_adapters
    with live:
        validation_losses(base, model, adapters, step_examples, HOW)
    shapes = shape_model(find_config(str(model_folders["llama"])), Lora(rank=2, alpha=4.0), "float32")
    found = trace_validation(meta_base(shapes), shapes.model, num_adapters, step_examples, HOW)
    assert found == pytest.approx(live.peak - before, rel=0.02)


def test_no_more_adapters_are_validated_at_once_than_a_pass_takes(model_folders, step_examples):
    shapes = shape_model(find_config(str(model_folders["llama"])), Lora(rank=2, alpha=4.0), "float32")
    one, eight, many = (
        trace_validation(meta_base(shapes), shapes.model, num, step_examples, HOW)
        for num in (1, AT_ONCE, 100)
    )
    assert one < eight == many


def test_what_stays_is_counted_by_its_own_size(model_folders, step_examples):
    shapes, trace = traced(model_folders["qwen2"], step_examples)
    num_adapter = num_in(shapes.adapter)
    buffers = sum(b.numel() * b.element_size() for b in shapes.model.buffers())
    assert trace.weights_bytes == 4 * shapes.num_parameters + buffers
    assert trace.adapter_bytes == 4 * num_adapter
    steps = 4 * len(shapes.adapter)  # AdamW counts the steps of every array
    assert trace.optimizer_bytes == pytest.approx(2 * trace.adapter_bytes + steps, abs=steps)
    halved = traced(model_folders["qwen2"], step_examples, precision="bfloat16")[1]
    assert halved.weights_bytes == 2 * shapes.num_parameters + buffers
    assert halved.adapter_bytes == trace.adapter_bytes  # PEFT keeps the adapter in float32
    everything = traced(model_folders["qwen2"], step_examples, trains="model")[1]
    assert everything.optimizer_bytes >= 2 * 4 * shapes.num_parameters


def test_more_rows_take_more_and_checkpointing_takes_less():
    from fedmedlora.model.tokens import TokenExample

    found = find_config("smollm2-135m")
    found.config.num_hidden_layers = 4
    shapes = shape_model(found, Lora(rank=4, alpha=8.0), "float32")
    ids = tuple(range(40))
    examples = [TokenExample(None, ids, ids[:20], ids[:20], ((),) * 20)] * 4  # type: ignore[arg-type]
    how = replace(HOW, examples_per_step=4)
    few, many, saving = (
        trace_step(meta_base(shapes), shapes.model, examples, replace(how, **change))
        for change in (
            {"micro_batch": 1},
            {"micro_batch": 4},
            {"micro_batch": 4, "gradient_checkpointing": True},
        )
    )
    assert few.step_bytes < many.step_bytes > 1.2 * saving.step_bytes
    # Two operations for each weight of the linear layers (LoRA's are few) and token forward, as many backward
    # for what the layers hand back: 4 * 14.2e6 * (40 + 4 * 39), and the head's for 80 of them.
    assert many.flop == pytest.approx(4 * 14.2e6 * 196 + 4 * 28.3e6 * 80, rel=0.15)
    assert saving.flop > 1.2 * many.flop


def test_bytes_on_a_device():
    """Worked by hand: 100 of weights, 10 and 20 of adapter and optimizer, a step of 40."""
    trace = StepTrace(weights_bytes=100, adapter_bytes=10, optimizer_bytes=20, step_bytes=40, flop=1)
    assert on_device(trace, is_cpu=True, process=1000) == round(1130 + 40 * HEAP_FACTOR)
    again = replace(trace, checkpointed=True)
    assert on_device(again, is_cpu=True, process=1000) == round(1130 + 40 * HEAP_FACTOR_CHECKPOINTED)
    assert on_device(trace, is_cpu=False, context=False) == 170
    watched = replace(trace, validation_bytes=90)
    assert on_device(watched, is_cpu=True, process=1000) == round(1110 + 90 * HEAP_FACTOR)
    assert on_device(watched, is_cpu=False, context=False) == 200
    assert on_device(replace(trace, validation_bytes=50), is_cpu=False, context=False) == 170
    assert on_device(trace, is_cpu=False) == 187 + CONTEXT_BYTES


def test_four_bits_a_weight():
    """LLaMA-3-8B: 6,979,321,856 weights in linear layers; 4.127 bits each, the rest in two bytes."""
    shapes = shape_model(find_config("llama-3-8b"), Lora(rank=16, alpha=32.0), "bfloat16")
    whole = StepTrace(2 * 8_030_261_248, 0, 0, 0, 1)
    packed = quantized(whole, shapes.model)
    linear = 8_030_261_248 - 2 * 128256 * 4096 - (2 * 32 + 1) * 4096
    assert linear == 6_979_321_856
    expected = linear * (4 + 1 / 8 + 1 / 512) / 8 + 2 * (8_030_261_248 - linear)
    assert packed.weights_bytes == pytest.approx(expected, abs=2)
    assert packed.step_bytes == 2 * 4096 * 14336  # one layer's weights at a time
    assert packed.validation_bytes == 0  # nobody validates
    watched = quantized(replace(whole, validation_bytes=10), shapes.model)
    assert watched.validation_bytes == 10 + packed.step_bytes
