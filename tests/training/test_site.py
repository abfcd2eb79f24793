"""One site, one round."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedmedlora.model.lora import attach_lora, read_adapter
from fedmedlora.training import site as site_module
from fedmedlora.training.site import LocalTraining, train_round, validation_loss

SETTINGS = LocalTraining(
    num_rounds=2, examples_per_step=3, micro_batch=2, learning_rate=2e-2, warmup_steps=1, max_grad_norm=1.0
)


@pytest.fixture
def setting(load):
    base = load("llama")
    model = attach_lora(base.model, rank=2, alpha=4.0, seed=3)
    return base, model, read_adapter(model)


def train(setting, examples, settings=SETTINGS, *, current=None, round_num=1, seed=0, site="a", **more):
    base, model, start = setting
    return train_round(
        base, model, current or start, examples, settings, site=site, round_num=round_num, seed=seed, **more
    )


def test_deterministic_and_a_function_of_its_arguments_alone(setting, step_examples):
    first = train(setting, step_examples)
    torch.manual_seed(99)  # neither the global generator nor what was trained before matters
    again = train(setting, step_examples)
    assert first.adapter == again.adapter
    assert first.train_loss == again.train_loss
    assert first.adapter != setting[2]
    others = [{"seed": 1}, {"site": "b"}, {"round_num": 2}, {"current": first.adapter}]
    assert len({train(setting, step_examples, **other).adapter.hash() for other in others}) == len(others)


def test_dropout_is_seeded_and_does_not_touch_the_global_generator(load, step_examples):
    base = load("llama")
    model = attach_lora(base.model, rank=2, alpha=4.0, dropout=0.5, seed=3)
    setting = (base, model, read_adapter(model))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = train(setting, step_examples)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert train(setting, step_examples).adapter == first.adapter
    assert not any(module.training for module in model.modules())


def test_each_round_site_and_seed_has_its_own_dropout():
    seeds = [
        site_module._step_seed(seed, site, round_num)
        for seed in (0, 1)
        for site in ("a", "b")
        for round_num in (1, 2)
    ]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("batching", ["shared-prefix", "padded"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_goes_down_on_a_tiny_overfit(setting, step_examples, batching, checkpointing):
    settings = replace(
        SETTINGS, batching=batching, steps=25, num_rounds=1, gradient_checkpointing=checkpointing
    )
    losses = []
    result = train(
        setting, step_examples[:2], settings, on_step=lambda step, num, loss: losses.append((step, num, loss))
    )
    assert [(step, num) for step, num, _ in losses] == [(i, 25) for i in range(1, 26)]
    assert losses[-1][2] < 0.5 * losses[0][2]
    assert result.train_loss == pytest.approx(sum(loss for *_, loss in losses) / 25)
    assert (result.num_steps, result.num_examples) == (25, 75)
    assert validation_loss(*setting[:2], result.adapter, step_examples[:2], settings) < 0.5 * losses[0][2]


def test_batching_micro_batch_and_checkpointing_change_speed_only(setting, step_examples):
    # An update of Adam's first steps is +-rate where a gradient is near zero: compare under a small rate.
    settings = replace(SETTINGS, learning_rate=1e-4)
    expected = train(setting, step_examples, replace(settings, batching="padded", micro_batch=1))
    for changed in (
        settings,
        replace(settings, micro_batch=3),
        replace(settings, gradient_checkpointing=True),
    ):
        got = train(setting, step_examples, changed)
        assert got.train_loss == pytest.approx(expected.train_loss, rel=1e-5)
        for name, array in expected.adapter.arrays.items():
            assert np.allclose(got.adapter.arrays[name], array, atol=3e-5), name


def test_the_last_step_of_a_pass_is_a_short_one(setting, step_examples, monkeypatch):
    sizes = []
    real = site_module.optimizer_step

    def spy(base, model, examples, settings, optimizer, *more):
        sizes.append(len(examples))
        return real(base, model, examples, settings, optimizer, *more)

    monkeypatch.setattr(site_module, "optimizer_step", spy)
    result = train(setting, step_examples)  # 7 examples, 3 a step, one pass
    assert sizes == [3, 3, 1]
    assert (result.num_steps, result.num_examples) == (3, 7)
    sizes.clear()
    train(setting, step_examples, replace(SETTINGS, steps=2))
    assert sizes == [3, 3]


def test_two_rounds_continue_order_and_schedule_and_begin_with_a_fresh_optimizer(
    setting, step_examples, monkeypatch
):
    """AdamW's moments do not travel: a site starts each round from the aggregated adapter alone."""
    seen = []
    real = site_module.optimizer_step

    def spy(base, model, examples, settings, optimizer, *more):
        seen.append((len(optimizer.state), optimizer.param_groups[0]["lr"], [e.example.id for e in examples]))
        return real(base, model, examples, settings, optimizer, *more)

    monkeypatch.setattr(site_module, "optimizer_step", spy)
    numbered = [replace(e, example=replace(e.example, id=str(i))) for i, e in enumerate(step_examples[:6])]
    settings = replace(SETTINGS, steps=2)
    first = train(setting, numbered, settings, round_num=1)
    train(setting, numbered, settings, current=first.adapter, round_num=2)
    two_rounds, seen[:] = list(seen), []
    train(setting, numbered, replace(settings, steps=4, num_rounds=1), round_num=1)
    one_round = list(seen)
    # Same rates, same examples in the same order...
    assert [s[1:] for s in two_rounds] == [s[1:] for s in one_round]
    # ... but the state is empty at the start of the second round.
    assert [s[0] > 0 for s in two_rounds] == [False, True, False, True]
    assert [s[0] > 0 for s in one_round] == [False, True, True, True]


def test_only_the_adapter_is_trained(setting, step_examples):
    model = setting[1]
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    train(setting, step_examples, replace(SETTINGS, weight_decay=0.1))
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)
    assert all(p.grad is None for p in model.parameters())


def test_no_example_is_refused(setting):
    with pytest.raises(ValueError, match="site 'a' has no example to train on"):
        train(setting, [])
    base, model, start = setting
    with pytest.raises(ValueError, match="the validation set has no example"):
        validation_loss(base, model, start, [], SETTINGS)


def test_diverged_training_is_refused(setting, step_examples, monkeypatch):
    monkeypatch.setitem(site_module._STEPS, "shared-prefix", lambda *a, **k: float("nan"))
    with pytest.raises(ValueError, match=r"loss is nan: lower training\.learning_rate"):
        train(setting, step_examples)


def test_interrupted_training_leaves_the_model_usable(setting, step_examples):
    def stop(*_):
        raise KeyboardInterrupt

    expected = train(setting, step_examples).adapter
    with pytest.raises(KeyboardInterrupt):
        train(setting, step_examples, on_step=stop)
    assert not any(module.training for module in setting[1].modules())
    assert train(setting, step_examples).adapter == expected


def test_validation_loss_is_the_training_loss_without_an_update(setting, step_examples):
    base, model, start = setting
    losses = {
        batching: validation_loss(
            base, model, start, step_examples, replace(SETTINGS, batching=batching, micro_batch=size)
        )
        for batching, size in (("shared-prefix", 1), ("padded", 4))
    }
    assert losses["shared-prefix"] == pytest.approx(losses["padded"], rel=1e-5)
    first = []
    settings = replace(SETTINGS, examples_per_step=len(step_examples))
    train(setting, step_examples, settings, on_step=lambda step, num, loss: first.append(loss))
    assert first[0] == pytest.approx(losses["padded"], rel=1e-5)
    assert read_adapter(model) != start
    assert validation_loss(base, model, start, step_examples, SETTINGS) == pytest.approx(losses["padded"])
    assert read_adapter(model) == start  # measured, not moved


def test_gradients_are_shortened(setting, step_examples, monkeypatch):
    norms = []
    real = torch.nn.utils.clip_grad_norm_

    def spy(parameters, limit):
        norm = real(parameters, limit)
        norms.append((float(norm), float(torch.cat([p.grad.flatten() for p in parameters]).norm())))
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
    train(setting, step_examples, replace(SETTINGS, max_grad_norm=0.01))
    assert norms
    assert all(before > 0.01 and after <= 0.0101 for before, after in norms)
