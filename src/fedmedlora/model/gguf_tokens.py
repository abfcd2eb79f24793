"""A tokenizer as GGUF holds it: tokens, merges, and the name of the rule that cuts a text into words.

llama.cpp has its own code for that rule, one for each known tokenizer, and picks it by a name in the file. A
wrong name gives other tokens than the adapter was trained on, in silence. So the name is looked up by what
the tokenizer itself says that it does, and a tokenizer that says anything else is refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# GGUF's kinds of token.
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5

# The regular expressions in the tokenizer files of Qwen 2 and of Llama 3; they differ in runs of digits.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split(digits: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": _WORDS % digits}, "behavior": "Isolated", "invert": False}


def _bytes(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}


# (llama.cpp's name, how a text is cut, whether a word that is a token is taken whole, merges or not)
_RULES: tuple[tuple[str, list[dict[str, Any]], bool], ...] = (
    ("gpt-2", [_bytes(use_regex=True)], False),
    ("smollm", [{"type": "Digits", "individual_digits": True}, _bytes(use_regex=True)], False),
    ("qwen2", [_split(r"\p{N}"), _bytes(use_regex=False)], False),
    ("llama-bpe", [_split(r"\p{N}{1,3}"), _bytes(use_regex=False)], True),
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """``tokens``, ``kinds``: one for each row of the embedding. ``special``: role ("eos") -> token id.

    ``adds_bos``: whether a text begins with the "bos" token. ``template``: the chat template, or "".
    """

    rule: str
    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    merges: tuple[str, ...]
    special: Mapping[str, int]
    adds_bos: bool
    template: str


def vocabulary(tokenizer: Any, num_rows: int) -> Vocabulary:
    """``tokenizer``: a transformers tokenizer. ``num_rows``: of the model's embedding.

    Raises ``ValueError`` for a tokenizer that llama.cpp would not follow to the letter.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _refused("has no tokenizer.json")
    record = json.loads(backend.to_str())
    model = record["model"]
    rule = _rule(record)
    tokens = {number: token for token, number in model["vocab"].items()}
    kinds = dict.fromkeys(tokens, NORMAL)
    for added in record["added_tokens"]:
        if added["lstrip"] or added["rstrip"] or added["single_word"]:
            raise _refused(f"the token {added['content']!r} takes spaces around it with it")
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    if max(tokens) >= num_rows:
        raise _refused(f"has {max(tokens) + 1} tokens, and the model {num_rows}")
    rows = [tokens.get(i) or f"[PAD{i}]" for i in range(num_rows)]
    twice = [token for token, times in Counter(rows).items() if times > 1]
    if twice:
        raise _refused(f"two of its tokens are written {twice[0]!r}")
    merges = model["merges"]
    roles = {role: getattr(tokenizer, f"{role}_token_id", None) for role in ("bos", "eos", "unk", "pad")}
    special = {role: number for role, number in roles.items() if number is not None}
    template = tokenizer.chat_template
    return Vocabulary(
        rule=rule,
        tokens=tuple(rows),
        kinds=tuple(kinds.get(i, UNUSED) for i in range(num_rows)),
        merges=tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in merges),
        special=special,
        # As in training: a chat template writes its own beginning (model/tokens.py).
        adds_bos=not template and "bos" in special,
        template=template
        if isinstance(template, str)
        else (tokenizer.get_chat_template() if template else ""),
    )


def _rule(record: Mapping[str, Any]) -> str:
    """llama.cpp's name for what the tokenizer does before its merges."""
    model = record["model"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise _refused("is of SentencePiece's kind, or another that is no byte-level BPE")
    odd = [key for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix") if model.get(key)]
    if odd:
        raise _refused(f"has a {odd[0]}")
    normalizer = record["normalizer"]
    # NFC changes no text of composed characters, which is how nearly all is written.
    if normalizer is not None and normalizer["type"] != "NFC":
        raise _refused(f"changes texts before it cuts them ({normalizer['type']})")
    steps = record["pre_tokenizer"] or {"type": "none"}
    steps = steps["pretokenizers"] if steps["type"] == "Sequence" else [steps]
    cut = [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps]
    for name, known, takes_whole in _RULES:
        if cut == known and bool(model.get("ignore_merges")) == takes_whole:
            return name
    raise _refused(f"cuts words in a way of its own ({', '.join(step['type'] for step in cut)})")


def _refused(why: str) -> ValueError:
    return ValueError(
        f"the base model's tokenizer {why}; GGUF is written for byte-level BPE as in GPT-2, SmolLM, "
        "Qwen 2 and Llama 3; export --to merged, and let llama.cpp's own convert_hf_to_gguf.py try it"
    )
