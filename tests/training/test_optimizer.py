"""AdamW, paged or not. bitsandbytes runs on a CPU too, with the same arithmetic and without pages."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedmedlora.model.lora import attach_lora, read_adapter
from fedmedlora.training import optimizer as optimizer_module
from fedmedlora.training.optimizer import OPTIMIZERS, make_optimizer, refuse_optimizer
from fedmedlora.training.site import LocalTraining, train_round

PAGED = OPTIMIZERS[1:]
SETTINGS = LocalTraining(
    num_rounds=2, examples_per_step=3, micro_batch=2, learning_rate=2e-2, warmup_steps=1, weight_decay=0.1
)

on_a_cpu = pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU:UserWarning")


@pytest.fixture
def setting(load):
    pytest.importorskip("bitsandbytes")
    base = load("llama")
    model = attach_lora(base.model, rank=2, alpha=4.0, seed=3)
    return base, model, read_adapter(model)


def train(setting, examples, name, **changes):
    base, model, start = setting
    how = replace(SETTINGS, optimizer=name, **changes)
    return train_round(base, model, start, examples, how, site="a", round_num=1, seed=0)


@on_a_cpu
def test_paged_is_adamw(setting, step_examples):
    plain, paged = train(setting, step_examples, "adamw"), train(setting, step_examples, "paged_adamw")
    assert plain.adapter != setting[2]
    for name, array in plain.adapter.arrays.items():
        assert np.allclose(paged.adapter.arrays[name], array, atol=1e-5), name


@on_a_cpu
@pytest.mark.parametrize("name", PAGED)
def test_what_is_kept_begins_afresh(setting, step_examples, name):
    first = train(setting, step_examples, name)
    kept = dict(optimizer_module._kept[setting[1]])
    train(setting, step_examples, name, learning_rate=0.3, weight_decay=0.7)
    again = train(setting, step_examples, name)
    assert again.adapter == first.adapter
    assert dict(optimizer_module._kept[setting[1]]) == kept, "made once"
    assert len(kept) == 1


@on_a_cpu
def test_eight_bits_are_near(setting):
    """An array that is large enough for them: smaller ones stay in 32."""
    torch.manual_seed(0)
    gradient = torch.randn(64, 128)
    weights = []
    for name in ("adamw", "paged_adamw_8bit"):
        parameter = torch.nn.Parameter(torch.ones(64, 128))
        model = torch.nn.Module()
        optimizer = make_optimizer(name, model, [parameter], learning_rate=0.1, weight_decay=0.0)
        for step in range(3):
            parameter.grad = gradient * (1 + 0.1 * step)
            optimizer.step()
        weights.append(parameter.detach())
    states = optimizer.state[parameter]
    assert states["state1"].dtype == torch.uint8
    assert (weights[0] - weights[1]).abs().mean() < 0.01  # of three steps of about 0.1
    assert not torch.equal(weights[0], weights[1])


@on_a_cpu
def test_it_is_kept_no_longer_than_its_model(load, step_examples):
    pytest.importorskip("bitsandbytes")
    base = load("llama")
    model = attach_lora(base.model, rank=2, alpha=4.0, seed=3)
    train((base, model, read_adapter(model)), step_examples, "paged_adamw")
    (optimizer,) = (weakref.ref(one) for one in optimizer_module._kept[model].values())
    del model, base
    gc.collect()
    assert optimizer() is None


def test_adamw_is_made_anew_each_time(load):
    model = attach_lora(load("llama").model, rank=2, alpha=4.0)
    parameters = [p for p in model.parameters() if p.requires_grad]
    one, two = (
        make_optimizer("adamw", model, parameters, learning_rate=1e-3, weight_decay=0.0) for _ in range(2)
    )
    assert one is not two
    assert model not in optimizer_module._kept


@pytest.mark.parametrize("name", PAGED)
def test_where_there_is_no_card(name, monkeypatch):
    with pytest.raises(ValueError, match=r"needs an NVIDIA GPU.*set optimizer = 'adamw'"):
        refuse_optimizer(name, torch.device("cpu"))
    monkeypatch.setattr(optimizer_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "fedmedlora\[cuda\]"'):
        refuse_optimizer(name, torch.device("cuda"))


def test_adamw_runs_everywhere():
    for kind in ("cpu", "cuda"):
        refuse_optimizer("adamw", torch.device(kind))
