"""Losses of several adapters in one pass: those of each alone, on every architecture."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.stored import StoredArrays
from fedmedlora.model.lora import attach_lora, read_adapter
from fedmedlora.model.several import several_adapters
from fedmedlora.model.weights import read_weights, write_weights
from fedmedlora.training import validation as validation_module
from fedmedlora.training.site import LocalTraining, validation_loss
from fedmedlora.training.validation import AT_ONCE, validation_losses

SETTINGS = LocalTraining(num_rounds=1, micro_batch=2)


def drawn(like: Adapter, seed: int) -> Adapter:
    rng = np.random.default_rng(seed)
    return Adapter({n: rng.normal(0, 0.2, a.shape).astype(np.float32) for n, a in like.arrays.items()})


def made(load, kind: str, **lora):
    base = load(kind)
    base.encoder.pad_id = 0  # Qwen2's tokenizer adds one of its own, which the tiny model has no row for
    model = attach_lora(base.model, **{"rank": 2, "alpha": 4.0, "seed": 3, **lora})
    return base, model, read_adapter(model)


@pytest.mark.parametrize(("form", "loss"), [("markup", "lm+decision"), ("tags", "decision")])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt_neox", "gpt2"])
def test_losses_are_those_of_each_alone(load, step_examples_of, kind, form, loss):
    step_examples, settings = step_examples_of(form), replace(SETTINGS, loss=loss)
    base, model, start = made(load, kind, dropout=0.5)
    adapters = [start, *(drawn(start, seed) for seed in range(2))]
    model.train()  # dropout is switched off for it
    together = validation_losses(base, model, adapters, step_examples, settings)
    assert read_adapter(model) == start  # what the model holds is not touched
    alone = [validation_loss(base, model, adapter, step_examples, settings) for adapter in adapters]
    assert together == pytest.approx(alone, rel=1e-5)
    assert min(abs(a - b) for a, b in combinations(alone, 2)) > 1e-3  # a mix-up would be seen
    # Afterwards the model reads with its own adapter again.
    write_weights(base, model, adapters[1])
    assert validation_losses(base, model, [start], step_examples, settings) == pytest.approx(alone[:1])
    again = validation_loss(base, model, adapters[1], step_examples, settings)
    assert again == pytest.approx(alone[1], rel=1e-6)


def test_adapters_on_the_disk_have_the_same_losses(load, step_examples, tmp_path):
    base, model, start = made(load, "llama")
    adapters = [start, drawn(start, 1), drawn(start, 2)]
    stored = [
        Adapter.stored(StoredArrays(tmp_path / str(number), one.arrays))
        for number, one in enumerate(adapters)
    ]
    found = validation_losses(base, model, stored, step_examples, SETTINGS)
    assert found == validation_losses(base, model, adapters, step_examples, SETTINGS)


def test_more_adapters_than_fit_and_none(load, step_examples, monkeypatch):
    base, model, start = made(load, "llama", targets=["q_proj", "down_proj"])
    adapters = [drawn(start, seed) for seed in range(AT_ONCE + 1)]
    sizes = []
    real = several_adapters

    def spy(model, some):
        sizes.append(len(some))
        return real(model, some)

    monkeypatch.setattr(validation_module, "several_adapters", spy)
    losses = validation_losses(base, model, adapters, step_examples[:2], SETTINGS)
    assert sizes == [AT_ONCE, 1]
    last = validation_loss(base, model, adapters[-1], step_examples[:2], SETTINGS)
    assert losses[-1] == pytest.approx(last, rel=1e-5)
    assert len(set(losses)) == AT_ONCE + 1
    assert validation_losses(base, model, [], step_examples, SETTINGS) == []


@pytest.mark.parametrize("change", [{"loss": "lm"}, {"loss": "decision"}, {"decision_weight": 3.0}])
def test_it_is_the_loss_that_is_trained(load, step_examples, change):
    base, model, start = made(load, "llama")
    settings = replace(SETTINGS, **change)
    (loss,) = validation_losses(base, model, [drawn(start, 1)], step_examples, settings)
    assert loss == pytest.approx(validation_loss(base, model, drawn(start, 1), step_examples, settings))


def test_whole_models_and_what_they_leave_behind(load, step_examples):
    """A whole model lies over the base: it is measured itself, and gone before adapters are."""
    base, model, start = made(load, "llama")
    adapter = drawn(start, 1)
    (expected,) = validation_losses(base, model, [adapter], step_examples, SETTINGS)
    whole = read_weights(model, whole=True)
    louder = Adapter({name: 1.5 * array for name, array in whole.arrays.items()})
    found = validation_losses(base, model, [whole, louder], step_examples, SETTINGS)
    assert found[0] == pytest.approx(validation_loss(base, model, start, step_examples, SETTINGS))
    write_weights(base, model, louder)
    assert validation_losses(base, model, [adapter], step_examples, SETTINGS)[0] == pytest.approx(expected)


def test_what_cannot_be_measured_is_refused(load, step_examples):
    base, model, start = made(load, "llama")
    with pytest.raises(ValueError, match="no example"):
        validation_losses(base, model, [start], [], SETTINGS)
    missing = Adapter(dict(list(start.arrays.items())[1:]))
    with pytest.raises(ValueError, match="1 arrays are missing"):
        validation_losses(base, model, [start, missing], step_examples, SETTINGS)
    # A refusal leaves no hook behind.
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        before = model(input_ids=ids).logits
        with pytest.raises(RuntimeError, match="inside"), several_adapters(model, [drawn(start, 0)]):
            raise RuntimeError("inside")
        assert torch.equal(model(input_ids=ids).logits, before)
