"""Generation under a grammar: at each step only tokens with which the answer can still be one of its form.

The grammar is a form's JSON schema; llguidance (https://github.com/guidance-ai/llguidance) turns it into
masks over the vocabulary. The library is maintained, has no dependencies of its own and computes a mask in
well under a millisecond. It is an extra (``pip install "fedmedlora[json]"``), imported only where it is used.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedmedlora.model.tokens import Encoder
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.form import load_form

Processor = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# Compact: what a target looks like. Free white space would be free tokens to get lost in.
COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}


def refuse_without_library() -> None:
    """Raise ``ValueError`` where the library is not installed, saying what to do."""
    if importlib.util.find_spec("llguidance") is None:
        raise ValueError(
            "constrained decoding of JSON needs the package llguidance, which is not installed here: "
            'pip install "fedmedlora[json]", or read freely (decoding = ["free"] under [evaluation] of a '
            "study, with every_round = false; --decoding free for extract)"
        )


def refuse_unreadable(encoder: Encoder) -> None:
    """Raise ``ValueError`` where no answer can be generated under a grammar: before a run, not amid it."""
    refuse_without_library()
    _tokenizer(encoder)


class Rows:
    """The logits processor of one batch: one matcher for each row."""

    def __init__(self, matchers: Sequence[Any], end_id: int) -> None:
        """``matchers``: llguidance's, at their start, in the order of the rows."""
        self._matchers, self._end_id = matchers, end_id
        self._is_first = True

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """``scores`` (num_rows, vocabulary) with minus infinity for every token that must not come next.

        ``input_ids``: (num_rows, length), prompt and what was generated so far.
        """
        if not self._is_first:
            for matcher, token in zip(self._matchers, input_ids[:, -1].tolist(), strict=True):
                if not matcher.is_stopped():
                    assert matcher.consume_token(token), "the token leaves the grammar"
        self._is_first = False
        allowed = np.zeros(tuple(scores.shape), dtype=bool)
        for row, matcher in enumerate(self._matchers):
            if matcher.is_stopped():
                allowed[row, self._end_id] = True
            else:
                mask = _bits(matcher.compute_bitmask())
                allowed[row, : len(mask)] = mask[: allowed.shape[1]]
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), float("-inf"))


def rows_for(encoder: Encoder, examples: Sequence[Example]) -> Processor:
    """The processor for a batch of ``examples``: each row under the grammar of its form and labels.

    Raises ``ValueError`` for a form without a grammar, without the library, and for a tokenizer that it
    cannot read.
    """
    refuse_unreadable(encoder)
    tokenizer = _tokenizer(encoder)
    return Rows([_matcher(tokenizer, example) for example in examples], encoder.end_id)


def _matcher(tokenizer: Any, example: Example) -> Any:
    from llguidance import LLMatcher

    matcher = LLMatcher(tokenizer, _compiled(example.form, example.labels), log_level=0)
    assert not matcher.get_error(), "a form's grammar is one that the library reads"
    return matcher


@lru_cache(maxsize=256)
def _compiled(form: str, labels: tuple[str, ...]) -> str:
    from llguidance import LLMatcher

    schema = load_form(form).grammar(labels)
    if schema is None:
        raise ValueError(f"form {form!r} has no grammar to generate under")
    compiled: str = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=COMPACT)
    return compiled


@lru_cache(maxsize=2)  # about a second for a large vocabulary
def _tokenizer(encoder: Encoder) -> Any:
    from llguidance.hf import from_tokenizer

    try:
        return from_tokenizer(encoder.tokenizer, eos_token=encoder.end_id)
    except ValueError as error:
        raise ValueError(
            f"the tokenizer {type(encoder.tokenizer).__name__} cannot be used for constrained decoding of "
            "JSON (llguidance reads byte-level and byte-fallback ones); read freely instead"
        ) from error


def _bits(mask: bytes) -> npt.NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(mask, dtype=np.uint8), bitorder="little").astype(bool)
