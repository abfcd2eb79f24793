"""Logits of some places and some tokens are those of the whole model there."""

from __future__ import annotations

import functools

import pytest
import torch

from fedmedlora.model.logits import logits_at, tagged_mask

IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
ROWS, COLUMNS, TOKENS = torch.tensor([0, 1, 1]), torch.tensor([3, 0, 2]), torch.tensor([40, 3, 41])


@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "qwen2", "gpt2"])
def test_places_and_tokens(build, kind):
    model = build(kind, 0)
    whole = model(input_ids=IDS).logits[ROWS, COLUMNS]
    head = model.get_output_embeddings()
    torch.testing.assert_close(logits_at(model, ROWS, COLUMNS, IDS), whole)
    torch.testing.assert_close(logits_at(model, ROWS, COLUMNS, IDS, tokens=TOKENS), whole[:, TOKENS])
    assert "forward" not in head.__dict__, "the head is as it was"
    torch.testing.assert_close(model(input_ids=IDS).logits[ROWS, COLUMNS], whole)


def test_only_these_rows_of_the_head_are_computed_and_scaling_stays(build):
    from transformers import CohereConfig, CohereForCausalLM

    model = build("llama", 0)
    seen = []
    hook = model.get_output_embeddings().register_forward_hook(lambda m, i, out: seen.append(out.shape))
    logits_at(model, ROWS, COLUMNS, IDS, tokens=TOKENS)
    hook.remove()
    assert seen == [(1, 3, 3)]
    torch.manual_seed(0)
    config = CohereConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, logit_scale=0.25,
    )  # fmt: skip
    scaled = CohereForCausalLM(config).eval()
    whole = scaled(input_ids=IDS).logits[ROWS, COLUMNS]
    torch.testing.assert_close(logits_at(scaled, ROWS, COLUMNS, IDS, tokens=TOKENS), whole[:, TOKENS])


def test_a_head_with_a_hook_of_its_own_keeps_it(build):
    """As accelerate leaves it on a model that is spread over devices."""
    model = build("llama", 0)
    head = model.get_output_embeddings()
    plain = head.forward
    calls = []
    head.forward = functools.partial(lambda hidden: calls.append(1) or 2 * plain(hidden))
    whole = model(input_ids=IDS).logits[ROWS, COLUMNS]
    torch.testing.assert_close(logits_at(model, ROWS, COLUMNS, IDS, tokens=TOKENS), whole[:, TOKENS])
    assert len(calls) == 2
    assert "forward" in head.__dict__


def test_the_gradient_reaches_the_head(build):
    model = build("llama", 0)
    head = model.get_output_embeddings()
    head.weight.requires_grad_(True)
    logits_at(model, ROWS, COLUMNS, IDS, tokens=TOKENS).sum().backward()
    got, head.weight.grad = head.weight.grad, None
    model(input_ids=IDS).logits[ROWS, COLUMNS][:, TOKENS].sum().backward()
    torch.testing.assert_close(got, head.weight.grad)


def test_one_mask_serves_rows_of_one_kind(step_examples_of):
    tagged, copied = step_examples_of("tags")[0], step_examples_of("markup")[0]
    for batch in ([tagged, copied], [copied, tagged]):
        with pytest.raises(AssertionError, match="all rows of a pass"):
            tagged_mask(batch, torch.float32, torch.device("cpu"), with_prefix=True)
    assert tagged_mask([copied], torch.float32, torch.device("cpu"), with_prefix=True) is None
