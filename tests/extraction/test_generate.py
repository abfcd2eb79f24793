"""Free decoding equals greedy steps over the whole vocabulary, batched or not, with or without a prefix."""

from __future__ import annotations

from bisect import bisect_left

import pytest
import torch

from fedmedlora.extraction.generate import default_limit, generate_texts
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.pieces import pieces

TEXTS = ("Pt denies chest pain.", "", "fever", "He was started on aspirin 81 mg daily, no fever.")


def example(text: str, instruction: str = "Mark it.") -> Example:
    cut = pieces(text, 0, len(text))
    return Example("n/0", "n", "ner", instruction, tuple(p.form for p in cut), cut, ("problem",), ())


EXAMPLES = (*(example(text) for text in TEXTS), example("chest pain", "Another one, longer."))


@torch.inference_mode()
def plain(model, encoder, case: Example, limit: int) -> str:
    ids = [*encoder.prefix(case.instruction), *encoder.prompt(case)]
    found: list[int] = []
    while len(found) < limit:
        token = int(model(torch.tensor([ids + found]), use_cache=False).logits[0, -1].argmax())
        if token == encoder.end_id:
            break
        found.append(token)
    return encoder.decode(found)


@pytest.mark.parametrize("share_prefix", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "gpt2"])
def test_equals_plain_greedy_steps(build, encoder, kind, batch_size, share_prefix):
    model = build(kind, 0)
    limits = [6, 5, 1, 9, 0]
    expected = [plain(model, encoder, case, limit) for case, limit in zip(EXAMPLES, limits, strict=True)]
    got = generate_texts(
        model, encoder, EXAMPLES, batch_size=batch_size, max_new_tokens=limits, share_prefix=share_prefix
    )
    assert got == expected
    assert got[-1] == ""


def test_a_long_prompt_takes_nothing_from_others(build, encoder):
    model = build("gpt2", 0)  # 4096 learned positions
    most = model.config.max_position_embeddings
    short = [example(text) for text in TEXTS[:3]]
    limits = [9] * 4

    def used(num: int) -> int:
        case = example("fever " * num)
        return len(encoder.prefix(case.instruction)) + len(encoder.prompt(case))

    num = bisect_left(range(most), most, key=used) - 1
    assert most - 9 < used(num) < most
    long = example("fever " * num)
    alone = generate_texts(model, encoder, short, batch_size=4, max_new_tokens=limits[:3])
    for share_prefix in (False, True):
        together = generate_texts(
            model, encoder, [long, *short], batch_size=4, max_new_tokens=limits, share_prefix=share_prefix
        )
        assert together[1:] == alone


def test_stops_at_the_end_token(build, encoder):
    model = build("qwen2", 0)
    head = model.get_output_embeddings()
    bias = torch.zeros(head.out_features)
    bias[encoder.end_id] = 1000.0
    head.bias = torch.nn.Parameter(bias, requires_grad=False)
    done = []
    texts = generate_texts(model, encoder, EXAMPLES, batch_size=2, progress=lambda *p: done.append(p))
    assert texts == [""] * len(EXAMPLES)
    assert done[-1] == (len(EXAMPLES), len(EXAMPLES))


def test_nothing(build, encoder):
    assert generate_texts(build("llama", 0), encoder, []) == []


def test_default_limit_leaves_room_for_tags(encoder):
    # One piece of n tokens: n + 32 + n // 2.
    num = len(encoder.piece("fever"))
    assert default_limit(encoder, example("fever")) == num + 32 + num // 2
    assert default_limit(encoder, example("")) == 32


def test_bad_counts_are_refused(build, encoder):
    model = build("llama", 0)
    with pytest.raises(ValueError, match="batch_size 0"):
        generate_texts(model, encoder, EXAMPLES, batch_size=0)
    with pytest.raises(ValueError, match="1 limits for 5 examples"):
        generate_texts(model, encoder, EXAMPLES, max_new_tokens=[3])


@pytest.mark.parametrize("share_prefix", [False, True])
def test_an_answer_ends_where_the_models_positions_do(build, encoder, share_prefix):
    """The limit of a form knows the sentence; how far a model can look is the model's."""
    model = build("gpt2", 0)
    num_prompt = len(encoder.prefix(EXAMPLES[0].instruction)) + len(encoder.prompt(EXAMPLES[0]))
    free = plain(model, encoder, EXAMPLES[0], 40)
    assert len(encoder.tokenizer(free).input_ids) > 7, "it would go on"
    model.config.max_position_embeddings = num_prompt + 7
    model.transformer.wpe.weight = torch.nn.Parameter(model.transformer.wpe.weight[: num_prompt + 7])
    (text,) = generate_texts(model, encoder, EXAMPLES[:1], max_new_tokens=[40], share_prefix=share_prefix)
    assert text == plain(model, encoder, EXAMPLES[0], 7)
