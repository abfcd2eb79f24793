"""A tokenizer as GGUF holds it; ``test_gguf_file.py`` lets llama.cpp cut texts with it."""

from __future__ import annotations

import json

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fedmedlora.model.gguf_tokens import CONTROL, NORMAL, UNUSED, USER_DEFINED, vocabulary
from fedmedlora.model.tokens import Encoder


def small(**special):
    """Seven tokens: a b c ab, and three that were added."""
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "c": 2, "ab": 3}, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>", **special)
    found.add_tokens([AddedToken("<mark>", special=False)])
    return found


def test_rows_kinds_merges_and_roles_by_hand():
    found = vocabulary(small(bos_token="<b>"), 8)
    assert found.rule == "gpt-2"
    assert found.tokens == ("a", "b", "c", "ab", "<b>", "<e>", "<mark>", "[PAD7]")
    assert found.kinds == (*[NORMAL] * 4, CONTROL, CONTROL, USER_DEFINED, UNUSED)
    assert found.merges == ("a b",)
    assert found.special == {"bos": 4, "eos": 5}
    assert found.template == ""


@pytest.mark.parametrize("bos", [{}, {"bos_token": "<b>"}])
@pytest.mark.parametrize("template", ["", "{{ messages[0].content }}"])
def test_a_text_begins_as_in_training(tokenizer_of, bos, template):
    tokenizer = tokenizer_of(["ab"], 260, **bos)
    tokenizer.chat_template = template or None
    found = vocabulary(tokenizer, len(tokenizer))
    begins = Encoder(tokenizer).prefix("ab")[0] == tokenizer.bos_token_id
    assert found.adds_bos == begins == (bool(bos) and not template)
    assert found.template == template


def changed(**parts) -> PreTrainedTokenizerFast:
    """``small`` with parts of its file replaced; those of the model in ``model``."""
    record = json.loads(small().backend_tokenizer.to_str())
    record["model"] |= parts.pop("model", {})
    tokenizer = Tokenizer.from_str(json.dumps(record | parts))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>")


SPLIT = {"type": "Split", "pattern": {"Regex": r"\d"}, "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"model": {"byte_fallback": True}}, "of SentencePiece's kind"),
        ({"model": {"dropout": 0.5}}, "has a dropout"),
        ({"model": {"end_of_word_suffix": "</w>"}}, "has a end_of_word_suffix"),
        ({"model": {"ignore_merges": True}}, r"cuts words in a way of its own \(ByteLevel\)"),
        ({"normalizer": {"type": "Lowercase"}}, r"changes texts before it cuts them \(Lowercase\)"),
        ({"pre_tokenizer": None}, "in a way of its own"),
        ({"pre_tokenizer": SPLIT}, r"in a way of its own \(Split\)"),
        ({"pre_tokenizer": BYTES | {"add_prefix_space": True}}, "in a way of its own"),
        (
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTES, BYTES]}},
            r"in a way of its own \(ByteLevel, ByteLevel\)",
        ),
    ],
)
def test_what_llama_cpp_would_cut_otherwise_is_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        vocabulary(changed(**parts), 10)


def test_composed_characters_alone_are_no_change():
    tokenizer = small()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    assert vocabulary(tokenizer, 6).rule == "gpt-2"


def test_what_llama_cpp_would_abort_on_is_refused():
    with pytest.raises(ValueError, match="has 6 tokens, and the model 5"):
        vocabulary(small(), 5)
    tokenizer = small()
    tokenizer.add_tokens(["[PAD8]"])  # an unused row would be called the same
    assert vocabulary(tokenizer, 8).tokens[6] == "[PAD8]"
    with pytest.raises(ValueError, match=r"two of its tokens are written '\[PAD8\]'"):
        vocabulary(tokenizer, 9)


def test_a_token_that_takes_spaces_with_it_is_refused():
    tokenizer = small()
    tokenizer.add_tokens([AddedToken("<x>", lstrip=True)])
    with pytest.raises(ValueError, match="'<x>' takes spaces around it"):
        vocabulary(tokenizer, 10)


def test_a_slow_tokenizer_is_refused():
    class Slow:
        pass

    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        vocabulary(Slow(), 10)
