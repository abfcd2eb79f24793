"""A tiny random BERT with a WordPiece tokenizer of single words and letters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

WORDS = (
    "denies reports fever nausea cough rash takes aspirin insulin heparin digoxin daily pain chest the of "
    "and "
    "no for with was in mg to patient on has 10 20 81"
)


@pytest.fixture(scope="session")
def tiny_encoder() -> Callable[[Path], Path]:
    """``tiny_encoder(folder)`` -> the folder, with an encoder in it."""

    def save(folder: Path) -> Path:
        import torch
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
        from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

        letters = [chr(c) for c in range(33, 127)]
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS.split(), *letters, *(f"##{c}" for c in letters)]
        vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = processors.BertProcessing(
            ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
        )
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            unk_token="[UNK]",
            pad_token="[PAD]",
            cls_token="[CLS]",
            sep_token="[SEP]",
        ).save_pretrained(folder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            config = BertConfig(
                vocab_size=len(vocabulary),
                hidden_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=64,
                max_position_embeddings=128,
                hidden_dropout_prob=0.0,
            )
            BertModel(config, add_pooling_layer=False).save_pretrained(folder)
        return folder

    return save
