"""Shared-prefix batching is padded batching with most of the work left out: same loss, same gradient."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmedlora.model.lora import attach_lora
from fedmedlora.model.slices import micro_batches
from fedmedlora.training import batches
from fedmedlora.training.batches import by_prefix, padded_step, shared_prefix_step
from fedmedlora.training.loss import LOSSES
from fedmedlora.training.site import gradient_checkpointing

GOLDEN = Path(__file__).with_name("golden_loss.json")


@pytest.fixture(scope="module")
def wrapped(build):
    """``wrapped(kind)`` -> PEFT's model with an adapter that changes something (B is not zero)."""

    def make(kind: str):
        model = attach_lora(build(kind, 1, std=0.15), rank=3, alpha=6.0)
        rng = np.random.default_rng(5)
        with torch.no_grad():
            for _, parameter in sorted(model.named_parameters()):
                if parameter.requires_grad:
                    drawn = rng.normal(scale=0.1, size=tuple(parameter.shape)).astype(np.float32)
                    parameter.copy_(torch.from_numpy(drawn))
        return model

    made = {kind: make(kind) for kind in ("llama", "qwen2", "gpt_neox", "gpt2")}
    return made.__getitem__


def gradient(step, model, examples, *, checkpointing=False, **settings) -> tuple[float, torch.Tensor]:
    """Loss of the step and all adapter gradients in one vector."""
    options = {"pad_id": 0, "device": torch.device("cpu"), "decision_weight": 0.7, **settings}
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.grad = None
    if checkpointing:
        gradient_checkpointing(model, True)
    model.train()
    try:
        loss = step(model, examples, **options)
    finally:
        model.eval()
        if checkpointing:
            gradient_checkpointing(model, False)
    assert all(p.grad is not None for p in parameters)
    return loss, torch.cat([p.grad.flatten() for p in parameters])


def assert_same(got, expected, tolerance=1e-5) -> None:
    assert got[0] == pytest.approx(expected[0], rel=tolerance)
    assert expected[1].norm() > 1e-3, "a gradient of zero would prove nothing"
    assert float((got[1] - expected[1]).norm() / expected[1].norm()) < tolerance


@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "qwen2", "gpt2"])
def test_the_language_model_loss_is_transformers_own(wrapped, step_examples, kind):
    """An independent reference: the whole sequence with labels on the target, one example at a time."""
    model = wrapped(kind)
    total = 0.0
    for example in step_examples:
        ids = [*example.prefix, *example.prompt, *example.target]
        labels = [-100] * (len(ids) - len(example.target)) + list(example.target)
        with torch.no_grad():
            mean = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        total += mean.item() * len(example.target)
    expected = total / sum(len(e.target) for e in step_examples)
    for step in (padded_step, shared_prefix_step):
        got, _ = gradient(step, model, step_examples, micro_batch=3, loss="lm")
        assert got == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "qwen2", "gpt2"])
def test_same_loss_and_gradient(wrapped, step_examples, kind, loss, checkpointing):
    model = wrapped(kind)
    # The reference of the reference: one row at a time has no padding at all.
    expected = gradient(padded_step, model, step_examples, micro_batch=1, loss=loss)
    for step in (padded_step, shared_prefix_step):
        for micro_batch in (1, 3, 32):
            got = gradient(
                step, model, step_examples, micro_batch=micro_batch, loss=loss, checkpointing=checkpointing
            )
            assert_same(got, expected)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_same_for_decisions_whose_gold_is_no_token_of_the_target(wrapped, step_examples_of, kind):
    model, tagged = wrapped(kind), step_examples_of("tags")
    expected = gradient(padded_step, model, tagged, micro_batch=1, loss="decision")
    for micro_batch in (1, 3, 32):
        assert_same(
            gradient(shared_prefix_step, model, tagged, micro_batch=micro_batch, loss="decision"), expected
        )
    for micro_batch in (1, 3, 32):  # 32: both instructions in a pass
        fewer = gradient(
            padded_step, model, tagged, micro_batch=micro_batch, loss="decision", needed_logits_only=True,
            pass_tokens=10_000,
        )  # fmt: skip
        assert_same(fewer, expected)


def test_tags_are_not_padded_where_layers_see_a_window(encoder, step_examples_of, step_examples):
    """Reading leaves such layers the window of the instruction; a row under a mask of its own shows all."""
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(encoder.tokenizer), num_key_value_heads=2, sliding_window=4, **sizes
    )
    model = attach_lora(MistralForCausalLM(config).eval(), rank=2, alpha=4.0)
    with pytest.raises(ValueError, match=r'sliding window.*set batching = "shared-prefix"'):
        gradient(padded_step, model, step_examples_of("tags"), micro_batch=2, loss="decision")
    gradient(shared_prefix_step, model, step_examples_of("tags"), micro_batch=2, loss="decision")
    gradient(padded_step, model, step_examples, micro_batch=2, loss="lm")


def test_checkpointing_is_on_where_it_is_asked_for(wrapped, step_examples):
    """Without the run of a layer for the second time, the test above would compare nothing."""
    calls = []
    model = wrapped("llama")
    layer = model.get_base_model().model.layers[0]
    hook = layer.mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        gradient(shared_prefix_step, model, step_examples[:1], micro_batch=1, loss="lm")
        plain, calls[:] = len(calls), []
        gradient(shared_prefix_step, model, step_examples[:1], micro_batch=1, loss="lm", checkpointing=True)
    finally:
        hook.remove()
    assert (plain, len(calls)) == (2, 4)  # the prefix and the row, forward; both again in the backward pass


@pytest.mark.parametrize("step", [padded_step, shared_prefix_step])
def test_order_of_examples_does_not_matter(wrapped, step_examples, step):
    model = wrapped("llama")
    one = gradient(step, model, step_examples, micro_batch=2, loss="lm+decision")
    other = gradient(step, model, step_examples[::-1], micro_batch=2, loss="lm+decision")
    assert_same(other, one)


@pytest.mark.parametrize("step", [padded_step, shared_prefix_step])
def test_gradients_are_added_and_can_be_left_out(wrapped, step_examples, step):
    model = wrapped("llama")
    loss, grad = gradient(step, model, step_examples[:2], micro_batch=2, loss="lm")
    options = {"pad_id": 0, "device": torch.device("cpu"), "decision_weight": 1.0, "micro_batch": 2}
    step(model, step_examples[:2], loss="lm", **options)  # a second time, into the same .grad
    twice = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    assert torch.allclose(twice, 2 * grad, rtol=1e-4, atol=1e-6)
    assert step(model, step_examples[:2], loss="lm", backward=False, **options) == pytest.approx(loss)
    after = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    assert torch.equal(after, twice)


def test_pad_token_does_not_matter(wrapped, step_examples):
    model = wrapped("llama")
    for step in (padded_step, shared_prefix_step):
        one = gradient(step, model, step_examples, micro_batch=4, loss="lm", pad_id=0)
        other = gradient(step, model, step_examples, micro_batch=4, loss="lm", pad_id=77)
        assert_same(other, one, 1e-6)


def test_each_prefix_is_run_once_for_a_step(wrapped, step_examples, monkeypatch):
    runs = []
    real = batches.record_prefix
    monkeypatch.setattr(
        batches, "record_prefix", lambda model, ids, device: (runs.append(ids), real(model, ids, device))[1]
    )
    gradient(shared_prefix_step, wrapped("llama"), step_examples, micro_batch=1, loss="lm")
    assert sorted(runs) == sorted({e.prefix for e in step_examples})


def test_the_gradient_through_the_prefix_is_needed(wrapped, step_examples, monkeypatch):
    """Broken on purpose: the instruction's share of the gradient is not small, and the tests see it."""
    model = wrapped("llama")
    expected = gradient(padded_step, model, step_examples, micro_batch=4, loss="lm")
    monkeypatch.setattr(batches, "_send_back", lambda prefix, leaves: None)
    got = gradient(shared_prefix_step, model, step_examples, micro_batch=4, loss="lm")
    with pytest.raises(AssertionError):
        assert_same(got, expected)


def test_a_step_without_open_decisions(wrapped, step_examples):
    """Nothing to decide: the decision loss is 0, and leaves the sum as it is."""
    forced = [replace(e, choices=((),) * len(e.target)) for e in step_examples[:2]]
    options = {"pad_id": 0, "device": torch.device("cpu"), "micro_batch": 2, "backward": False}
    model = wrapped("llama")
    for step in (padded_step, shared_prefix_step):
        assert step(model, forced, loss="decision", decision_weight=1.0, **options) == 0.0
        both = step(model, forced, loss="lm+decision", decision_weight=1.0, **options)
        assert both == step(model, forced, loss="lm", decision_weight=1.0, **options)


def test_a_step_without_open_decisions_can_be_trained_on(wrapped, step_examples):
    forced = [replace(e, choices=((),) * len(e.target)) for e in step_examples[:2]]
    options = {"pad_id": 0, "device": torch.device("cpu"), "micro_batch": 2, "decision_weight": 1.0}
    for step in (padded_step, shared_prefix_step):
        assert step(wrapped("llama"), forced, loss="decision", **options) == 0.0


def test_golden_loss(wrapped, step_examples):
    """These numbers must not move. After a change that is meant to: print ``found`` and say why."""
    model = wrapped("llama")
    rng = np.random.default_rng(11)
    with torch.no_grad():  # weights by numpy, whose generator does not change between versions
        for _, parameter in sorted(model.named_parameters()):
            parameter.copy_(
                torch.from_numpy(rng.normal(scale=0.1, size=tuple(parameter.shape)).astype(np.float32))
            )
    found = {}
    for loss in LOSSES:
        value, grad = gradient(shared_prefix_step, model, step_examples, micro_batch=3, loss=loss)
        found[loss] = {"loss": value, "gradient_norm": float(grad.norm())}
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert set(golden) == set(found)
    for loss, numbers in golden.items():
        assert found[loss] == pytest.approx(numbers, rel=1e-4), loss


def test_by_prefix_groups_and_sorts(step_examples):
    groups = by_prefix(step_examples)
    assert len(groups) == 2
    assert sorted(map(id, (e for group in groups.values() for e in group))) == sorted(map(id, step_examples))
    for prefix, group in groups.items():
        assert all(e.prefix == prefix for e in group)
        assert [len(e) for e in group] == sorted((len(e) for e in group), reverse=True)
    assert by_prefix([]) == {}


def cut(lengths, size, pass_tokens):
    """The lengths in each slice."""
    return micro_batches(lengths, size, pass_tokens=pass_tokens, length=lambda length: length)


def test_micro_batches_are_consecutive_and_full_where_a_pass_is_dear():
    assert cut([9, 8, 7, 2, 1], 2, 1000) in (
        [[9, 8], [7, 2], [1]],
        [[9], [8, 7], [2, 1]],
        [[9, 8], [7], [2, 1]],
    )
    assert cut([9, 8, 7, 2], 2, 1000) == [[9, 8], [7, 2]]
    assert cut([5, 5, 5], 8, 1000) == [[5, 5, 5]]
    assert cut([], 2, 1000) == []


def test_micro_batches_cost_least():
    # 3 x 100 tokens in one slice, or 100 + 2 x 10 and one pass more
    assert cut([100, 10, 10], 3, 179) == [[100], [10, 10]]
    assert cut([100, 10, 10], 3, 181) == [[100, 10, 10]]
    rng = np.random.default_rng(0)
    for _ in range(50):
        lengths = sorted(rng.integers(1, 60, size=rng.integers(1, 9)).tolist(), reverse=True)
        size, passes = int(rng.integers(1, 5)), int(rng.integers(0, 40))
        found = cut(lengths, size, passes)
        assert [length for part in found for length in part] == lengths
        assert max(map(len, found)) <= size
        assert price(found, passes) == min(price(way, passes) for way in all_ways(lengths, size))


def price(parts, passes):
    return sum(len(part) * part[0] + passes for part in parts)


def all_ways(lengths, size):
    if not lengths:
        return [[]]
    return [
        [lengths[:first], *rest]
        for first in range(1, min(size, len(lengths)) + 1)
        for rest in all_ways(lengths[first:], size)
    ]


def test_layers_that_would_drop_the_prefix_under_checkpointing_are_refused():
    class Old:
        def get_base_model(self):
            return torch.nn.Sequential(torch.nn.Linear(2, 2))

    with pytest.raises(ValueError, match=r"set training\.gradient_checkpointing = false"):
        gradient_checkpointing(Old(), True)
