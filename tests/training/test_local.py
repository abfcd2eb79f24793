"""What rules ask of a site beyond plain training: B alone, a pull back, the whole model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.model.lora import attach_lora, read_adapter
from fedmedlora.model.weights import read_weights, write_weights
from fedmedlora.training.site import LocalTraining, train_round, validation_gradient, validation_loss

SETTINGS = LocalTraining(num_rounds=1, examples_per_step=3, micro_batch=2, learning_rate=2e-2, warmup_steps=1)


@pytest.fixture
def setting(load):
    base = load("llama")
    model = attach_lora(base.model, rank=2, alpha=4.0, seed=3)
    return base, model, read_adapter(model)


def train(setting, examples, local, current=None, settings=SETTINGS):
    base, model, start = setting
    return train_round(
        base, model, current or start, examples, settings, site="a", round_num=1, seed=0, local=local
    ).adapter


def moved(before: Adapter, after: Adapter) -> set[str]:
    return {name for name in before.arrays if not np.array_equal(before.arrays[name], after.arrays[name])}


def distance(a: Adapter, b: Adapter) -> float:
    return float(sum(((a.arrays[n] - b.arrays[n]) ** 2).sum() for n in a.arrays) ** 0.5)


def test_b_alone_is_trained_and_gradients_are_as_before(setting, step_examples):
    _, model, start = setting
    wanted = {p: p.requires_grad for p in model.parameters()}
    after = train(setting, step_examples, Local(trains="B", sends="B"))
    assert moved(start, after) == {name for name in start.arrays if ".lora_B." in name}
    assert {p: p.requires_grad for p in model.parameters()} == wanted
    assert all(p.grad is None for p in model.parameters())


def test_a_pull_of_nothing_changes_nothing_and_a_strong_one_holds_back(setting, step_examples):
    start = setting[2]
    settings = replace(SETTINGS, passes=3.0)
    plain = train(setting, step_examples, Local(), settings=settings)
    assert train(setting, step_examples, None, settings=settings) == plain
    assert train(setting, step_examples, Local(proximal=0.0), settings=settings) == plain
    # AdamW takes steps of one length, so the pull turns them back rather than shortens them.
    pulled = train(setting, step_examples, Local(proximal=1000.0), settings=settings)
    assert distance(pulled, start) < 0.5 * distance(plain, start)


def test_the_gradient_of_the_pull_is_mu_times_the_distance(setting, step_examples, monkeypatch):
    """mu / 2 |w - w_t|^2 has the gradient mu (w - w_t): checked at the second of two steps."""
    from fedmedlora.training import site as site_module

    seen = []
    real = site_module.step_loss

    def spy(*args, **more):
        loss = real(*args, **more)
        seen.append({n: p.grad.clone() for n, p in args[1].named_parameters() if p.grad is not None})
        return loss

    monkeypatch.setattr(site_module, "step_loss", spy)
    gradients = []
    clip = site_module.torch.nn.utils.clip_grad_norm_

    def keep(parameters, limit):
        gradients.append([p.grad.clone() for p in parameters])
        return clip(parameters, limit)

    monkeypatch.setattr(site_module.torch.nn.utils, "clip_grad_norm_", keep)
    base, model, start = setting
    anchors = {n: p.detach().clone() for n, p in model.named_parameters() if "lora_" in n}
    write_weights(base, model, start)
    where = []

    def on_step(step, num_steps, loss):
        where.append({n: p.detach().clone() for n, p in model.named_parameters() if "lora_" in n})

    train_round(
        base,
        model,
        start,
        step_examples,
        replace(SETTINGS, steps=2),
        site="a",
        round_num=1,
        seed=0,
        local=Local(proximal=0.5),
        on_step=on_step,
    )
    names = list(anchors)
    for name, with_pull in zip(names, gradients[1], strict=True):
        expected = seen[1][name] + 0.5 * (where[0][name] - anchors[name])
        np.testing.assert_allclose(with_pull.numpy(), expected.numpy(), rtol=1e-5, atol=1e-7)


def test_the_whole_model_is_trained_and_the_base_comes_back(setting, step_examples):
    base, model, start = setting
    before = read_weights(model, whole=True)
    settings = replace(SETTINGS, learning_rate=0.4)
    local = Local(trains="model", sends="model", learning_rate_factor=0.05)  # 0.02
    after = train(setting, step_examples, local, current=before, settings=settings)
    assert after.shapes() == before.shapes()
    assert not any("lora" in name for name in after.arrays)
    assert len(moved(before, after)) > len(before.arrays) * 0.9
    loss = [validation_loss(base, model, weights, step_examples, SETTINGS) for weights in (before, after)]
    assert loss[1] < loss[0]
    write_weights(base, model, start)
    assert read_weights(model, whole=True) == before
    assert read_adapter(model) == start
    assert base.pristine == {}
    # With B = 0 an adapter changes nothing, so both ways of reading the untrained model agree.
    assert validation_loss(base, model, start, step_examples, SETTINGS) == pytest.approx(loss[0], rel=1e-6)


def test_the_whole_of_a_model_in_bfloat16_is_refused(setting, step_examples):
    base, model, _ = setting
    with pytest.raises(ValueError, match="needs float32 weights, and these are bfloat16"):
        train_round(
            replace(base, precision="bfloat16"),
            model,
            read_weights(model, whole=True),
            step_examples,
            SETTINGS,
            site="a",
            round_num=1,
            seed=0,
            local=Local(trains="model", sends="model"),
        )


def test_weights_of_another_model_are_refused(setting):
    base, model, _ = setting
    whole = read_weights(model, whole=True)
    name = sorted(whole.arrays)[0]
    other = Adapter({**whole.arrays, name: np.zeros((1, 1), np.float32)})
    with pytest.raises(ValueError, match="another model"):
        write_weights(base, model, other)


def test_the_validation_gradient_is_that_of_the_loss(setting, step_examples):
    """Against a difference of losses along a random direction."""
    base, model, start = setting
    rng = np.random.default_rng(0)
    at = Adapter(
        {n: (a + 0.1 * rng.standard_normal(a.shape)).astype(np.float32) for n, a in start.arrays.items()}
    )
    loss, gradient = validation_gradient(base, model, at, step_examples, SETTINGS)
    assert read_adapter(model) == at
    assert loss == pytest.approx(validation_loss(base, model, at, step_examples, SETTINGS), rel=1e-6)
    direction = {n: rng.standard_normal(a.shape) for n, a in at.arrays.items()}
    slope = sum(float((gradient.arrays[n] * d).sum()) for n, d in direction.items())
    h = 1e-3
    ends = [
        validation_loss(
            base,
            model,
            Adapter({n: (a + s * h * direction[n]).astype(np.float32) for n, a in at.arrays.items()}),
            step_examples,
            SETTINGS,
        )
        for s in (1, -1)
    ]
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=0.02, abs=2e-3)
