"""The likelihood of an answer equals that of one plain pass per answer."""

from __future__ import annotations

import pytest
import torch

from fedmedlora.extraction.likelihood import log_likelihoods
from fedmedlora.tasks.example import PLAIN, Example


def example(prompt: str, answer: str, instruction: str = "") -> Example:
    return Example("n", "n", "instruction", instruction, (prompt,), (), (), (answer,), form=PLAIN)


CASES = (
    example("Fever?", "no"),
    example("Fever?", "no change"),
    example("A much longer question about the chest pain of yesterday?", "yes"),
    example("Fever?", "no", "Answer."),
)


@torch.inference_mode()
def plain(model, encoder, case: Example) -> float:
    found = encoder.encode(case)
    ids = [*found.prefix, *found.prompt, *found.target]
    logits = model(torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)
    first = len(ids) - len(found.target)
    return sum(logits[i - 1, ids[i]].item() for i in range(first, len(ids)))


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "gpt2"])
def test_equals_a_plain_pass_for_each(build, encoder, kind, batch_size):
    model = build(kind, 0)
    told = []
    found = log_likelihoods(
        model,
        [encoder.encode(case) for case in CASES],
        pad_id=encoder.pad_id,
        batch_size=batch_size,
        progress=lambda *p: told.append(p),
    )
    assert found == pytest.approx([plain(model, encoder, case) for case in CASES], rel=1e-4)
    assert told[-1] == (4, 4)
    assert len(set(found)) == 4


def test_the_end_counts(build, encoder):
    # A model that never ends gives no short answer an advantage: the end token's probability is in the sum.
    model = build("llama", 0)
    (found,) = log_likelihoods(model, [encoder.encode(CASES[0])], pad_id=encoder.pad_id)
    target = encoder.encode(CASES[0]).target
    assert target[-1] == encoder.end_id
    assert len(target) > 1
    assert found < 0


def test_a_batch_has_at_least_one(build, encoder):
    with pytest.raises(ValueError, match="batch_size 0"):
        log_likelihoods(build("llama", 0), [], pad_id=0, batch_size=0)
