"""The fast decoder gives the reference's output, whatever the model wants, however it is batched."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedmedlora.extraction import decode as decode_module
from fedmedlora.extraction.decode import decode
from fedmedlora.extraction.reference import decode_stepwise
from fedmedlora.model.slides import slides
from fedmedlora.tasks.copying import MAX_DEPTH, START, advance, is_tag, options
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.pieces import pieces

LABELS = ("problem", "drug", "test")
TEXTS = (
    "Pt denies chest pain and severe nausea.",
    "He was started on aspirin 81 mg daily, no fever.",
    "",
    "fever",
    " ",
    "\n",
    "no <problem> tag & &lt; </drug> here",
    "BP 120/80\n\t aspirin  aspirin aspirin µg é 痛み",
    "blood pressure was 120 / 80; blood pressure was 120 / 80",
    "pain pain pain",
)


def example(text: str, number: int = 0, instruction: str = "Mark it.", labels=LABELS) -> Example:
    cut = pieces(text, 0, len(text))
    forms = tuple(piece.form for piece in cut)
    return Example(f"n/{number}", "n", "ner", instruction, ("Text: ", *forms), cut, labels, ())


EXAMPLES = tuple(example(text, i) for i, text in enumerate(TEXTS))


def assert_path(case: Example, output: tuple[str, ...]) -> None:
    state = START
    for piece in output:
        assert piece in options(state, case.pieces, case.labels)
        state = advance(state, piece)
    assert options(state, case.pieces, case.labels) == ()


def lean(model, encoder, amounts: dict[str, float]):
    """``model`` with a bias on the tokens that begin tags: at 0 tags as often as chance has it."""
    head = model.get_output_embeddings()
    bias = torch.zeros(head.out_features)
    for text, amount in amounts.items():
        bias[encoder.piece(text)[0]] += amount
    head.bias = torch.nn.Parameter(bias, requires_grad=False)
    return model


@pytest.fixture(scope="module")
def expected(build, encoder):
    """(kind, seed) -> the reference's outputs for EXAMPLES, computed once."""
    known: dict = {}

    def outputs(kind: str, seed: int):
        if (kind, seed) not in known:
            model = build(kind, seed)
            known[kind, seed] = [decode_stepwise(model, encoder, case) for case in EXAMPLES]
        return known[kind, seed]

    return outputs


@pytest.mark.parametrize("window", [1, 2, 3, 8, 1000, None])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_reference(build, encoder, expected, seed, batch_size, window):
    got = decode(build("llama", seed), encoder, EXAMPLES, batch_size=batch_size, window=window)
    assert got == expected("llama", seed)
    for case, output in zip(EXAMPLES, got, strict=True):
        assert_path(case, output)
        assert "".join(p for p in output if not is_tag(p)) == "".join(p.form for p in case.pieces)


@pytest.mark.parametrize("kind", ["qwen2", "gpt_neox", "gpt2"])
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_other_architectures(build, encoder, expected, kind, seed):
    for batch_size, window in ((1, None), (4, 2), (16, 1000)):
        got = decode(build(kind, seed), encoder, EXAMPLES, batch_size=batch_size, window=window)
        assert got == expected(kind, seed)


@pytest.mark.parametrize("seed", [0, 1])
def test_tags_in_short(build, encoder, seed):
    """Form "compact": other tokens, the same constraint, and an output that names tags as it always does."""
    model, short = build("llama", seed), [replace(case, form="compact") for case in EXAMPLES]
    reference = [decode_stepwise(model, encoder, case) for case in short]
    for batch_size, window in ((1, None), (4, 2), (16, 1000)):
        assert decode(model, encoder, short, batch_size=batch_size, window=window) == reference
    for case, output in zip(short, reference, strict=True):
        assert_path(case, output)
    assert sum(is_tag(piece) for output in reference for piece in output) > 5


def test_attention_in_plain_products(build, encoder, expected):
    """As a CPU computes it in bfloat16 (``model/attention.py``)."""
    model = build("llama", 0)
    model.set_attn_implementation("eager")
    for batch_size, window in ((1, None), (4, 2), (16, 1000)):
        assert decode(model, encoder, EXAMPLES, batch_size=batch_size, window=window) == expected("llama", 0)


def test_random_models_do_open_and_nest_tags(expected):
    # Without this the tests above could hold for a decoder that only copies.
    outputs = [o for seed in (0, 1) for o in expected("llama", seed)]
    assert sum(is_tag(piece) for o in outputs for piece in o) > 20
    copied = [o for o in outputs if o and not any(map(is_tag, o))]
    assert copied or len(outputs) > 0


@pytest.mark.parametrize(
    "amounts",
    [
        {"<problem>": 50.0},  # opens wherever it may: MAX_DEPTH everywhere, closed at the end only
        {"<problem>": 6.0, "</problem>": 6.0},
        {"</problem>": 50.0, "<problem>": 4.0},  # one piece per element
        {"<problem>": -50.0},  # never opens
    ],
)
def test_biased_heads(build, encoder, amounts):
    model = lean(build("llama", 5), encoder, amounts)
    expected = [decode_stepwise(model, encoder, case) for case in EXAMPLES]
    for batch_size, window in ((1, None), (3, 1), (16, 3)):
        assert decode(model, encoder, EXAMPLES, batch_size=batch_size, window=window) == expected
    for case, output in zip(EXAMPLES, expected, strict=True):
        assert_path(case, output)


def test_deepest_nesting_closes_at_the_end(build, encoder):
    # "<" always wins; behind it "/" never does where a label may stand. So tags open to the deepest, and
    # before the second piece the innermost closes (nothing else may) and another opens.
    model = lean(build("llama", 5), encoder, {"<problem>": 50.0, "/": -50.0})
    case = example("chest pain")
    (output,) = decode(model, encoder, [case])
    assert output == decode_stepwise(model, encoder, case)
    assert [p.startswith("</") for p in output] == [False] * 5 + [True] + [False] * 2 + [True] * 4
    assert sum(is_tag(p) for p in output[: MAX_DEPTH + 1]) == MAX_DEPTH == 4


def test_no_labels_copies_without_asking_the_model(build, encoder, monkeypatch):
    cases = [example(text, i, labels=()) for i, text in enumerate(TEXTS)]
    expected = [tuple(piece.form for piece in case.pieces) for case in cases]
    model = build("llama", 0)
    assert [decode_stepwise(model, encoder, case) for case in cases] == expected
    monkeypatch.setattr(decode_module, "scores_at", None)  # a call would raise
    assert decode(model, encoder, cases, batch_size=3) == expected


def test_nothing(build, encoder):
    assert decode(build("llama", 0), encoder, []) == []


def test_instructions_keep_to_their_own_and_the_order_is_the_callers(build, encoder):
    cases = [
        example(text, i, instruction="Mark it." if i % 2 else "Find every drug, and mark it well.")
        for i, text in enumerate(TEXTS * 2)
    ]
    model = build("llama", 1)
    expected = [decode_stepwise(model, encoder, case) for case in cases]
    assert decode(model, encoder, cases, batch_size=3) == expected
    assert decode(model, encoder, cases[::-1], batch_size=3) == expected[::-1]


def test_finished_rows_leave_and_others_come_in(build, encoder, monkeypatch):
    in_flight = []
    plain = decode_module._pass

    def watched(model, pool, rows, drafts):
        in_flight.append([row.number for row in rows])
        return plain(model, pool, rows, drafts)

    monkeypatch.setattr(decode_module, "_pass", watched)
    done = []
    decode(build("llama", 0), encoder, EXAMPLES, batch_size=3, window=2, progress=lambda *p: done.append(p))
    assert max(map(len, in_flight)) == 3
    assert sorted({n for rows in in_flight for n in rows}) == list(range(len(EXAMPLES)))
    spans = {n: [i for i, rows in enumerate(in_flight) if n in rows] for n in range(len(EXAMPLES))}
    for passes in spans.values():  # once a row has left, it does not come back
        assert passes == list(range(passes[0], passes[-1] + 1))
    assert done == [(i + 1, len(EXAMPLES)) for i in range(len(EXAMPLES))]


# PEFT asks transformers for a property by its deprecated name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_unmerged_adapter_counts(build, encoder):
    pytest.importorskip("peft")
    from fedmedlora.model.lora import attach_lora, read_adapter, write_adapter

    plain = decode(build("llama", 6), encoder, EXAMPLES)
    model = attach_lora(build("llama", 6), rank=2, alpha=4.0)
    assert decode(model, encoder, EXAMPLES) == plain  # a fresh adapter changes nothing
    adapter = read_adapter(model)
    generator = torch.Generator().manual_seed(0)
    arrays = {
        name: torch.randn(array.shape, generator=generator).numpy() for name, array in adapter.arrays.items()
    }
    write_adapter(model, type(adapter)(arrays))
    model.eval()
    got = decode(model, encoder, EXAMPLES, batch_size=4)
    assert got == [decode_stepwise(model, encoder, case) for case in EXAMPLES]
    assert got != plain


def test_a_head_that_is_no_plain_linear_layer(build, encoder):
    class Scaled(torch.nn.Linear):
        def forward(self, hidden):
            return -super().forward(hidden)

    model = build("qwen2", 7)
    head = model.get_output_embeddings()
    other = Scaled(head.in_features, head.out_features, bias=False)
    other.weight = head.weight
    model.set_output_embeddings(other)
    expected = [decode_stepwise(model, encoder, case) for case in EXAMPLES]
    assert decode(model, encoder, EXAMPLES, batch_size=4) == expected


@pytest.mark.parametrize(("batch_size", "window"), [(0, None), (1, 0)])
def test_counts_below_one_are_refused(build, encoder, batch_size, window):
    with pytest.raises(ValueError, match="at least 1"):
        decode(build("llama", 0), encoder, EXAMPLES, batch_size=batch_size, window=window)


def test_a_broken_mask_would_be_seen(build, encoder, expected, monkeypatch):
    # Rows that see each other's entries must not pass for the reference.
    from fedmedlora.extraction.pool import Pool

    plain = Pool._mask
    monkeypatch.setattr(Pool, "_mask", lambda *args: torch.zeros_like(plain(*args)))
    assert decode(build("llama", 0), encoder, EXAMPLES) != expected("llama", 0)


def test_a_sliding_window_is_respected(encoder):
    """Such layers do not see all that the pool holds, so these models are read step by step."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(encoder.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=8,
    )
    model = MistralForCausalLM(config).eval()
    cases = [
        example(text, i, instruction="Mark every mention in this sentence. " * 3)
        for i, text in enumerate(TEXTS[:3])
    ]
    assert slides(model)
    assert decode(model, encoder, cases) == [decode_stepwise(model, encoder, case) for case in cases]
