"""Tagging in one pass gives what deciding every piece by itself gives, however it is batched."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedmedlora.extraction.tagging import confidences, likeliest, tag
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.pieces import pieces
from fedmedlora.tasks.tagging import NONE, SAME, options

LABELS = ("problem", "drug", "test")
WORDS = options(LABELS)
TEXTS = (
    "Pt denies chest pain and severe nausea.",
    "He was started on aspirin 81 mg daily, no fever.",
    "",
    "fever",
    " ",
    "no <problem> tag & &lt; </drug> here",
    "BP 120/80\n\t aspirin  aspirin aspirin µg é 痛み",
)


def example(text: str, number: int = 0, instruction: str = "Decide.", labels=LABELS) -> Example:
    cut = pieces(text, 0, len(text))
    forms = tuple(piece.form for piece in cut)
    return Example(f"n/{number}", "n", "ner", instruction, ("Text: ", *forms), cut, labels, (), form="tags")


EXAMPLES = tuple(example(text, i, f"Decide {i % 2}.") for i, text in enumerate(TEXTS))


def one_by_one(model, encoder, case: Example) -> list[dict[str, float]]:
    """The reference: prompt and sentence in one row, nothing cached, and a mask written place by place."""
    tokens = encoder.tag_tokens(case.labels)
    before = len(encoder.prefix(case.instruction))
    ids = list(encoder.prefix(case.instruction))
    ends = []
    for piece in case.pieces:
        ids += encoder.piece(piece.form)
        if piece.is_solid:
            ends.append(len(ids) - 1)
    if not ends:
        return []
    mask = torch.zeros(1, 1, len(ids), len(ids))
    for asks in range(before):
        mask[0, 0, asks, asks + 1 :] = torch.finfo(torch.float32).min
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), attention_mask=mask, use_cache=False).logits[0]
    found = []
    for end in ends:
        log_shares = torch.log_softmax(logits[end, list(tokens.values())].double(), dim=0)
        found.append(dict(zip(tokens, log_shares.tolist(), strict=True)))
    return found


def best_of_all(rows: list[dict[str, float]]) -> tuple[str, ...]:
    """The likeliest of all sequences without a contradiction, each tried."""

    def holds(words: tuple[str, ...]) -> bool:
        return all(w != SAME or (i and words[i - 1] != NONE) for i, w in enumerate(words))

    every = filter(holds, itertools.product(*(row for row in rows)))
    return max(every, key=lambda words: sum(row[w] for row, w in zip(rows, words, strict=True)))


@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize(("kind", "seed"), [("llama", 0), ("llama", 1), ("qwen2", 0), ("gpt_neox", 1)])
def test_equals_the_reference(build, encoder, kind, seed, batch_size):
    model = build(kind, seed)
    got = tag(model, encoder, EXAMPLES, batch_size=batch_size)
    assert any(SAME in words for words, _ in got), "a model that finds nothing would prove nothing"
    for case, (words, shares) in zip(EXAMPLES, got, strict=True):
        rows = one_by_one(model, encoder, case)
        assert len(words) == len(rows)
        scores = np.array([[row[w] for w in WORDS] for row in rows]).reshape(len(rows), len(WORDS))
        assert words == likeliest(scores, WORDS)
        np.testing.assert_allclose(shares, confidences(scores, words, WORDS), rtol=1e-4)


def test_no_example_and_progress(build, encoder):
    calls: list[tuple[int, int]] = []
    model = build("llama", 0)
    assert tag(model, encoder, ()) == []
    tag(model, encoder, EXAMPLES, batch_size=2, progress=lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1] == (len(EXAMPLES), len(EXAMPLES))
    with pytest.raises(ValueError, match="batch_size 0"):
        tag(model, encoder, EXAMPLES, batch_size=0)


@pytest.mark.parametrize("seed", range(20))
def test_the_likeliest_sequence_is_that_of_all(seed):
    rng = np.random.default_rng(seed)
    scores = np.log(rng.dirichlet(np.full(len(WORDS), 0.5), size=5))
    rows = [dict(zip(WORDS, row, strict=True)) for row in scores.tolist()]
    assert likeliest(scores, WORDS) == best_of_all(rows)
    assert likeliest(scores[:1], WORDS) == best_of_all(rows[:1])
    assert likeliest(scores[:0], WORDS) == ()


def test_going_on_is_not_taken_where_nothing_is_open():
    #                     -     +     problem
    scores = np.log([[0.3, 0.6, 0.1], [0.1, 0.8, 0.1]])
    # "+ +" is likelier by each piece and says nothing; "problem +" has 0.08, "- -" 0.03, "- problem" 0.03.
    assert likeliest(scores, (NONE, SAME, "problem")) == ("problem", SAME)


def test_confidence_by_hand():
    shares = np.array([[0.1, 0.2, 0.7], [0.3, 0.6, 0.1], [0.5, 0.25, 0.25], [0.2, 0.2, 0.6]])
    words = ("problem", SAME, NONE, "problem")
    got = confidences(np.log(shares), words, (NONE, SAME, "problem"))
    # It begins 0.7, goes on 0.6, and ends 1 - 0.25; the other begins 0.6, and the text ends.
    assert got == pytest.approx((0.7 * 0.6 * 0.75, 0.6))


def test_what_cannot_be_decided_is_left_out_of_the_confidence():
    half = [0.5, 0.5, 0.0]
    shares = np.array([[0.1, 0.2, 0.7], half, [0.1, 0.8, 0.1], half, [0.2, 0.2, 0.6], half])
    words = ("problem", SAME, SAME, NONE, "problem", SAME)
    decided = np.array([True, False, True, False, True, False])
    with np.errstate(divide="ignore"):
        scores = np.log(shares)
    got = confidences(scores, words, (NONE, SAME, "problem"), decided)
    # 0.7, goes on unseen, goes on 0.8, and nobody says that it ends; the other begins 0.6, and no more.
    assert got == pytest.approx((0.7 * 0.8, 0.6))
    assert confidences(scores, words, (NONE, SAME, "problem"))[0] == pytest.approx(0.7 * 0.5 * 0.8 * 0.5)
    assert confidences(scores[:0], (), (NONE, SAME, "problem"), decided[:0]) == ()


def test_no_label_leaves_nothing_to_find(build, encoder):
    case = replace(EXAMPLES[0], labels=())
    ((words, shares),) = tag(build("llama", 0), encoder, [case])
    assert set(words) == {NONE}
    assert shares == ()


def test_a_piece_without_tokens_is_not_decided(build, encoder, monkeypatch):
    monkeypatch.setitem(encoder._cache, " chest", ())
    model = build("llama", 1)
    (got,) = tag(model, encoder, EXAMPLES[:1])
    assert len(got[0]) == sum(piece.is_solid for piece in EXAMPLES[0].pieces)
    assert got[0][2] in (NONE, SAME)


def test_a_mention_over_a_piece_without_tokens_is_as_sure_as_the_rest_of_it(build, encoder, monkeypatch):
    """The same sentence with that piece away: the model reads the same tokens, and is as sure."""
    monkeypatch.setitem(encoder._cache, " chest", ())
    shares = []
    for seed in range(20):
        model = build("llama", seed)
        ((words, whole), (fewer, rest)) = tag(
            model, encoder, [example("denies chest pain"), example("denies pain")]
        )
        if words[1] == SAME and (words[0], *words[2:]) == fewer:
            shares.append((whole, rest))
    assert shares, "no mention goes over the piece, so nothing is shown"
    for whole, rest in shares:
        assert whole == pytest.approx(rest, rel=1e-4)


@pytest.mark.parametrize("kind", ["llama", "sliding"])
def test_training_and_reading_see_the_same(build, encoder, kind):
    """The loss of some words is the mean of what reading says of them, also where layers see a part only."""
    from transformers import MistralConfig, MistralForCausalLM

    from fedmedlora.extraction.tagging import _scored
    from fedmedlora.model.cache import record_prefix
    from fedmedlora.training.batches import shared_prefix_step

    if kind == "llama":
        model = build("llama", 3)
    else:
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "sliding_window": 4}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        model = MistralForCausalLM(MistralConfig(vocab_size=len(encoder.tokenizer), **sizes, **heads)).eval()
    case = example(TEXTS[0])
    num = sum(piece.is_solid for piece in case.pieces)
    words = [WORDS[i % len(WORDS)] for i in range(num)]
    gold = encoder.encode(replace(case, target=tuple(f" {word}" for word in words)))
    loss = shared_prefix_step(
        model, [gold], pad_id=encoder.pad_id, device=torch.device("cpu"), micro_batch=1, loss="decision",
        decision_weight=1.0, backward=False,
    )  # fmt: skip
    with torch.no_grad():
        prefix = record_prefix(model, gold.prefix, torch.device("cpu"))
        (scores,) = _scored(model, encoder, [gold], prefix)
    expected = -sum(scores[i, WORDS.index(word)] for i, word in enumerate(words)) / num
    assert loss == pytest.approx(expected, rel=1e-5)
