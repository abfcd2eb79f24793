from __future__ import annotations

import numpy as np
import pytest
import torch

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.model.lora import attach_lora, detach_lora, read_adapter, write_adapter

KINDS = ("llama", "qwen2", "gpt_neox", "gpt2")
IDS = torch.arange(24).reshape(2, 12)


def random_like(adapter: Adapter, seed: int) -> Adapter:
    rng = np.random.default_rng(seed)
    return Adapter({n: rng.normal(size=a.shape).astype(np.float32) for n, a in adapter.arrays.items()})


@pytest.mark.parametrize("kind", KINDS)
def test_read_and_write_are_exact_inverses(build, kind):
    model = attach_lora(build(kind, 0), rank=3, alpha=6.0)
    other = random_like(read_adapter(model), 1)
    write_adapter(model, other)
    assert read_adapter(model) == other
    # Special numbers pass through as they are.
    hostile = Adapter({n: np.full(a.shape, -0.0, np.float32) for n, a in other.arrays.items()})
    write_adapter(model, hostile)
    assert read_adapter(model) == hostile


def test_what_was_read_is_not_a_view_of_the_model(build):
    model = attach_lora(build("llama", 0), rank=3, alpha=6.0)
    before = read_adapter(model)
    kept = before.hash()
    write_adapter(model, random_like(before, 1))
    assert before.hash() == kept


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_adapter_changes_nothing(build, kind):
    model = build(kind, 0)
    expected = model(IDS).logits
    wrapped = attach_lora(model, rank=3, alpha=6.0, dropout=0.9)
    assert torch.equal(wrapped(IDS).logits, expected)
    arrays = read_adapter(wrapped).arrays
    assert all(not a.any() for n, a in arrays.items() if "lora_B" in n)
    assert all(a.any() for n, a in arrays.items() if "lora_A" in n)
    # One that is not fresh does, and without it the base is as it was.
    write_adapter(wrapped, random_like(read_adapter(wrapped), 1))
    assert not torch.allclose(wrapped(IDS).logits, expected)
    assert torch.equal(detach_lora(wrapped)(IDS).logits, expected)


def test_dropout_is_off_until_training(build):
    """A run that is resumed reads with an adapter that was not trained in this process."""
    model = attach_lora(build("llama", 0), rank=3, alpha=6.0, dropout=0.5)
    write_adapter(model, random_like(read_adapter(model), 1))
    assert torch.equal(model(IDS).logits, model(IDS).logits)


def test_seeded_and_no_trace_in_the_global_generator(build):
    state = torch.get_rng_state()
    one, same, other = (
        read_adapter(attach_lora(build("llama", 0), rank=3, alpha=6.0, seed=seed)) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other
    assert torch.equal(torch.get_rng_state(), state)


def test_all_linear_layers_but_the_head(build):
    model = attach_lora(build("llama", 0), rank=3, alpha=6.0)
    arrays = read_adapter(model).arrays
    assert len(arrays) == 2 * 7 * 2  # layers, projections, A and B
    assert not any("lm_head" in n or "embed" in n for n in arrays)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    # q, o: 32 -> 32; k, v: 32 -> 16; gate, up: 32 -> 48; down: 48 -> 32; rank 3, two layers.
    per_layer = 2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 48)
    assert sum(a.size for a in arrays.values()) == 2 * 3 * per_layer


@pytest.mark.parametrize("targets", ["q_proj", ["q_proj"], ("q_proj", "v_proj")])
def test_named_targets(build, targets):
    arrays = read_adapter(attach_lora(build("llama", 0), rank=3, alpha=6.0, targets=targets)).arrays
    wanted = [targets] if isinstance(targets, str) else targets
    assert {n.split(".lora_")[0].rsplit(".", 1)[-1] for n in arrays} == set(wanted)


@pytest.mark.parametrize("targets", ["query", ["q_proj", "query"], "proj", "all_linear"])
def test_a_target_that_matches_nothing_lists_what_there_is(build, targets):
    with pytest.raises(ValueError, match=r"matches no linear layer.*'down_proj'.*'q_proj'.*all-linear"):
        attach_lora(build("llama", 0), rank=3, alpha=6.0, targets=targets)


def test_another_rank_other_targets_or_another_base_are_refused(build):
    model = attach_lora(build("llama", 0), rank=3, alpha=6.0)
    before = read_adapter(model)
    with pytest.raises(ValueError, match=r"has shape \(2, \d+\), the model expects \(3, \d+\)"):
        write_adapter(model, read_adapter(attach_lora(build("llama", 0), rank=2, alpha=6.0)))
    with pytest.raises(ValueError, match="does not fit the model: 24 arrays are missing"):
        write_adapter(
            model, read_adapter(attach_lora(build("llama", 0), rank=3, alpha=6.0, targets=["q_proj"]))
        )
    with pytest.raises(ValueError, match="another base model"):
        write_adapter(model, read_adapter(attach_lora(build("gpt_neox", 0), rank=3, alpha=6.0)))
    assert read_adapter(model) == before, "a refused adapter leaves no trace"
