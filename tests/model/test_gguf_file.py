"""GGUF files, run by llama.cpp: the same logits as transformers' and the same tokens."""

from __future__ import annotations

import itertools

import gguf
import numpy as np
import pytest
import torch
from llama_cpp import LlamaCpp
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.model import gguf_file
from fedmedlora.model.gguf_layout import layout
from fedmedlora.model.gguf_tokens import _RULES, _WORDS, vocabulary
from fedmedlora.model.lora import attach_lora, read_adapter, write_adapter

NUM_ROWS = 352  # more than there are tokens, as in most models
SIZES = {
    "vocab_size": NUM_ROWS,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": None,
    "eos_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-3.1": ("llama", {"rope_parameters": LLAMA3}),
    "llama-linear": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "mistral": ("mistral", {"sliding_window": None, "head_dim": 32}),  # heads wider than the model
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 32}),
}
IDS = [7, 250, 31, 300, 44, 9, 120, 333, 18, 18, 2, 77]


def tiny(name: str, **more):
    """A random model of a kind in ``MODELS``, float32, its vectors no ones and no zeros either."""
    kind, settings = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**{**SIZES, **settings, **more}))
        for parameter in model.parameters():
            parameter.data.normal_(mean=1.0 if parameter.ndim == 1 else 0.0, std=0.2)
    return model.eval().requires_grad_(False)


def write(path, model, tokenizer, precision="float32"):
    weights = {name: weight.float().numpy() for name, weight in model.named_parameters()}
    shapes = {name: weight.shape for name, weight in weights.items()}
    about = {"general.name": "tiny"}
    words = vocabulary(tokenizer, NUM_ROWS)
    gguf_file.write_model(
        path, layout(model.config), words, weights.items(), shapes, precision=precision, about=about
    )
    return weights


def log_probabilities(model) -> dict[int, float]:
    return dict(enumerate(model(torch.tensor([IDS])).logits[0, -1].log_softmax(-1).tolist()))


def distance(found: dict[int, float], expected: dict[int, float]) -> float:
    """The largest difference; of llama.cpp's only those that it tells of, which must be nearly all."""
    assert len(found) >= NUM_ROWS - 2
    return max(abs(value - expected[number]) for number, value in found.items())


@pytest.fixture(scope="module")
def tokenizer(encoder):
    return encoder.tokenizer


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_computes_what_transformers_does(name, tokenizer, tmp_path):
    model = tiny(name)
    write(tmp_path / "model.gguf", model, tokenizer)
    found = LlamaCpp(tmp_path / "model.gguf").likely(IDS)
    assert distance(found, log_probabilities(model)) < 1e-4


def test_a_row_out_of_its_place_would_be_seen(tokenizer, tmp_path, monkeypatch):
    model = tiny("llama")
    monkeypatch.setattr(gguf_file, "interleave", lambda model, name, rows: rows)
    write(tmp_path / "model.gguf", model, tokenizer)
    found = LlamaCpp(tmp_path / "model.gguf").likely(IDS)
    assert distance(found, log_probabilities(model)) > 1e-2


# The largest relative error of a number: half a unit in the last place. q8_0 has 127 steps for each sign, and
# a float16 for what they are steps of.
@pytest.mark.parametrize(
    ("precision", "kind", "bound"),
    [
        ("float32", "F32", 0.0),
        ("float16", "F16", 2**-11),
        ("bfloat16", "BF16", 2**-8),
        ("q8_0", "Q8_0", 0.5 / 127 + 2**-11),
    ],
)
def test_precisions(precision, kind, bound, tokenizer, tmp_path):
    model = tiny("llama")
    weights = write(tmp_path / "model.gguf", model, tokenizer, precision)
    size = (tmp_path / "model.gguf").stat().st_size
    promised = gguf_file.num_bytes([w.shape for w in weights.values()], precision)
    assert promised < size < promised + 40_000
    held = {one.name: one for one in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert held["output_norm.weight"].tensor_type.name == "F32"
    for name, target in (
        ("model.embed_tokens", "token_embd"),
        ("model.layers.1.mlp.down_proj", "blk.1.ffn_down"),
    ):
        one, weight = held[f"{target}.weight"], weights[f"{name}.weight"]
        assert one.tensor_type.name == kind
        got = gguf.quants.dequantize(one.data, one.tensor_type).reshape(weight.shape)
        # Of q8_0 the largest of 32 numbers sets the step, of the others each number its own.
        scale = np.abs(weight.reshape(-1, 32)).max(1, keepdims=True) if precision == "q8_0" else None
        scale = (
            np.abs(weight)
            if scale is None
            else np.broadcast_to(scale, (len(scale), 32)).reshape(weight.shape)
        )
        assert (np.abs(got - weight) <= bound * scale + 1e-7 * (bound > 0)).all()
    found = LlamaCpp(tmp_path / "model.gguf").likely(IDS)
    assert distance(found, log_probabilities(model)) < (1e-4 if bound == 0 else 0.3)


def test_rows_that_make_no_blocks_are_float16(tokenizer, tmp_path):
    model = tiny("llama", hidden_size=72, intermediate_size=80)  # 72 = 2 * 32 + 8, 80 = 2 * 32 + 16
    write(tmp_path / "model.gguf", model, tokenizer, "q8_0")
    kinds = {one.name: one.tensor_type.name for one in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert kinds["blk.0.ffn_down.weight"] == kinds["token_embd.weight"] == "F16"
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    found = LlamaCpp(tmp_path / "model.gguf").likely(IDS)
    assert distance(found, log_probabilities(model)) < 0.3


@pytest.mark.parametrize(
    ("precision", "number"),
    [("float16", 70_000.0), ("q8_0", 1e7), ("float32", np.inf), ("bfloat16", np.nan), ("q8_0", -np.inf)],
)
def test_what_a_precision_cannot_hold_is_refused(precision, number, tokenizer, tmp_path):
    model = tiny("llama")
    model.lm_head.weight.data[3, 4] = number
    with pytest.raises(ValueError, match=r"lm_head\.weight holds numbers that .* cannot"):
        write(tmp_path / "model.gguf", model, tokenizer, precision)


def test_an_adapter_of_its_own_gives_what_the_merged_model_gives(tokenizer, tmp_path):
    model = tiny("llama-biases")
    write(tmp_path / "base.gguf", model, tokenizer)
    plain = log_probabilities(model)
    lora = attach_lora(model, rank=4, alpha=6.0, targets=["q_proj", "k_proj", "down_proj"])
    rng = np.random.default_rng(1)
    shapes = {name: array.shape for name, array in read_adapter(lora).arrays.items()}
    adapter = Adapter({n: rng.normal(scale=0.3, size=s).astype(np.float32) for n, s in shapes.items()})
    write_adapter(lora, adapter)
    path = tmp_path / "adapter.gguf"
    gguf_file.write_adapter_file(path, layout(model.config), adapter, 6.0, about={"general.name": "x"})
    expected = log_probabilities(lora)
    found = LlamaCpp(tmp_path / "base.gguf", path).likely(IDS)
    assert distance(found, expected) < 1e-4
    assert distance(found, plain) > 0.1


# --- tokens ---------------------------------------------------------------------------------------------

TEXT = (
    'Pt\'s BP was 120/80 mmHg;  HR 1024,  temp 38.5°C.\n\n\nDenies SOB, N/V -- "fine"...\n'
    "  \t5mg q.d. x10days  µg été Größe 体温是38度 🙂🙂 He'LL I'm WE'RE\r\n"
    "<problem>chest pain</problem> &lt; <|end|><|mark|> end "
)


def split(digits: str):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS % digits), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


CUTS = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "qwen2": split(r"\p{N}"),
    "llama-bpe": split(r"\p{N}{1,3}"),
}


@pytest.mark.parametrize("rule", CUTS)
def test_llama_cpp_cuts_a_text_into_the_same_tokens(rule, tmp_path):
    made = Tokenizer(models.BPE(ignore_merges=rule == "llama-bpe"))
    made.pre_tokenizer, made.decoder = CUTS[rule], decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|begin|>", "<|end|>"]
    made.train_from_iterator(
        [TEXT] * 3,
        trainers.BpeTrainer(
            vocab_size=340, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<|begin|>", eos_token="<|end|>")
    tokenizer.add_tokens(["<|mark|>"])
    assert vocabulary(tokenizer, NUM_ROWS).rule == rule
    write(tmp_path / "model.gguf", tiny("llama"), tokenizer)
    llama = LlamaCpp(tmp_path / "model.gguf")
    expected = tokenizer(TEXT, add_special_tokens=False).input_ids
    assert llama.tokens(TEXT) == expected
    assert llama.tokens(TEXT, begin=True) == [tokenizer.bos_token_id, *expected]
    for one, two in itertools.pairwise(TEXT.split(" ")):
        assert llama.tokens(f"{one} {two}") == tokenizer(f"{one} {two}", add_special_tokens=False).input_ids


def test_every_rule_has_been_cut_with():
    assert {name for name, _, _ in _RULES} == set(CUTS)


def test_a_chat_template_begins_by_itself(tokenizer_of, tmp_path):
    tokenizer = tokenizer_of([TEXT], 300, bos_token="<|begin|>")
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    write(tmp_path / "model.gguf", tiny("llama"), tokenizer)
    llama = LlamaCpp(tmp_path / "model.gguf")
    message = [{"role": "user", "content": "Pt denies pain."}]
    asked = {"tokenize": False, "add_generation_prompt": True}
    text = tokenizer.apply_chat_template(message, **asked)
    assert llama.chat("Pt denies pain.") == text
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert llama.tokens(text, begin=True) == ids  # once, not twice


def test_without_the_package_is_said(monkeypatch):
    gguf_file.refuse_without_library()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package gguf: pip install 'fedmedlora\[gguf\]'"):
        gguf_file.refuse_without_library()
