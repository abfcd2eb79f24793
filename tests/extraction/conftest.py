"""Tiny random models and a small byte-level BPE tokenizer, all from seeds."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from fedmedlora.model.tokens import Encoder

WORDS = (
    "Pt denies chest pain and severe nausea . He was started on aspirin 81 mg daily <problem> </problem> "
    "<drug> </drug> <test> </test> no fever , blood pressure was 120 / 80 ; problem drug test"
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for each other cost tiny models more time than the arithmetic."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS] * 4, trainer)
    return Encoder(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>"))


def _sizes(encoder: Encoder) -> dict[str, int]:
    return {
        "vocab_size": len(encoder.tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 4096,
    }


def _llama(encoder: Encoder):
    return LlamaForCausalLM(LlamaConfig(**_sizes(encoder), num_key_value_heads=2, tie_word_embeddings=True))


def _qwen2(encoder: Encoder):
    return Qwen2ForCausalLM(Qwen2Config(**_sizes(encoder), num_key_value_heads=2))


def _gpt_neox(encoder: Encoder):
    return GPTNeoXForCausalLM(GPTNeoXConfig(**_sizes(encoder)))


BUILDERS = {"llama": _llama, "qwen2": _qwen2, "gpt_neox": _gpt_neox}


@pytest.fixture(scope="session")
def build(encoder):
    """``build(kind, seed)`` -> a random model with weights large enough for lively output."""

    def make(kind: str, seed: int):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = BUILDERS[kind](encoder)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.ndim == 2:
                        parameter.normal_(std=0.3)
        model.generation_config.pad_token_id = encoder.pad_id
        return model.eval().requires_grad_(False)

    return make
