"""One step in several parts: every example in one of them, and their losses and gradients add up."""

from __future__ import annotations

import pytest
import torch

from fedmedlora.model.lora import attach_lora
from fedmedlora.training.share import ALONE, Share, buckets, split_step
from fedmedlora.training.site import LocalTraining, step_loss

SETTINGS = LocalTraining(num_rounds=1, micro_batch=2)


@pytest.mark.parametrize("num", [1, 2, 3, 12])
def test_every_example_is_in_one_part(step_examples, num):
    parts = split_step(step_examples, num, micro_batch=2, pass_tokens=32)
    assert len(parts) == num
    assert sorted(id(e) for part in parts for e in part) == sorted(map(id, step_examples))
    assert parts == split_step(step_examples, num, micro_batch=2, pass_tokens=32)


def test_parts_cost_about_the_same(step_examples):
    examples = [e for e in step_examples if e.prefix == step_examples[0].prefix] * 8
    one, two = ([len(e) for e in part] for part in split_step(examples, 2, micro_batch=1, pass_tokens=0))
    assert abs(sum(one) - sum(two)) <= max(map(len, examples))


def test_none_and_one(step_examples):
    assert split_step([], 2, micro_batch=4, pass_tokens=32) == [[], []]
    assert split_step(step_examples[:1], 2, micro_batch=4, pass_tokens=32) == [[step_examples[0]], []]
    # Two in one pass would leave one process idle.
    assert [len(p) for p in split_step([step_examples[0]] * 2, 2, micro_batch=4, pass_tokens=4096)] == [1, 1]


@pytest.mark.parametrize("batching", ["shared-prefix", "padded"])
@pytest.mark.parametrize("num", [2, 3])
def test_losses_and_gradients_add_up(load, step_examples, batching, num):
    base = load("llama")
    model = attach_lora(base.model, rank=2, alpha=4.0, seed=3)
    torch.manual_seed(0)
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:  # B is zero at first, which would hide A's gradient
        parameter.data.normal_(std=0.3)
    how = LocalTraining(num_rounds=1, micro_batch=2, batching=batching)

    def run(share: Share) -> tuple[float, list[torch.Tensor]]:
        model.zero_grad(set_to_none=True)
        loss = step_loss(base, model, step_examples, how, backward=True, share=share)
        return loss, [p.grad.clone() for p in parameters]

    loss, gradients = run(ALONE)
    found = [run(Share(rank, num)) for rank in range(num)]
    assert sum(one for one, _ in found) == pytest.approx(loss, rel=1e-6)
    for number, gradient in enumerate(gradients):
        total = sum(grads[number] for _, grads in found)
        assert torch.allclose(total, gradient, rtol=1e-4, atol=1e-6)
    assert all(one > 0 for one, _ in found), "each has something to do"


def test_alone_nothing_is_added(step_examples):
    parameter = torch.nn.Parameter(torch.ones(2))
    assert ALONE.add_up([parameter], 1.25) == 1.25
    assert parameter.grad is None
    assert ALONE.own(step_examples, micro_batch=2, pass_tokens=32) is step_examples


@pytest.mark.parametrize(
    ("sizes", "most", "expected"),
    [([], 4, []), ([1], 4, [[1]]), ([2, 2, 2], 4, [[2, 2], [2]]), ([9, 1, 9], 4, [[9], [1], [9]])],
)
def test_buckets(sizes, most, expected):
    found = buckets([torch.zeros(size) for size in sizes], most)
    assert [[t.numel() for t in bucket] for bucket in found] == expected
