"""transformers' ``generate`` with every advantage that it can be given, as functions from sentences to texts.

Greedy, padded on the left, batches sorted by length, and told how long the answer is, so that it never
writes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from fedmedlora.extraction.generate import generate_texts
from fedmedlora.model.tokens import Encoder
from fedmedlora.tasks.example import Example

PLAIN = "batched generate"
CACHED = "generate, instruction cached"
LOOKUP = "generate with prompt lookup"
NUM_LOOKUP_TOKENS = 10  # the number in transformers' own documentation

Generator = Callable[[], list[str]]


def generators(
    model: Any, encoder: Encoder, chosen: Sequence[Example], limits: Sequence[int], batch_size: int
) -> dict[str, Generator]:
    """The ways to generate an answer to each of ``chosen``, of at most ``limits`` tokens, by name."""

    def batched(share_prefix: bool) -> list[str]:
        how = {"batch_size": batch_size, "max_new_tokens": limits, "share_prefix": share_prefix}
        return generate_texts(model, encoder, chosen, **how)  # type: ignore[arg-type]

    found = {PLAIN: lambda: batched(False), CACHED: lambda: batched(True)}
    if batch_size == 1:  # transformers looks up for one row at a time only
        found[LOOKUP] = lambda: looked_up(model, encoder, chosen, limits)
    return found


@torch.inference_mode()
def looked_up(model: Any, encoder: Encoder, chosen: Sequence[Example], limits: Sequence[int]) -> list[str]:
    """Prompt-lookup decoding: drafts of what followed the same tokens in the prompt, checked in one pass.

    The instruction is computed anew for each: transformers 5.23 reads the whole prompt again behind keys and
    values that it is handed (its assisted decoding begins with all of ``input_ids``), and its text is wrong.
    """
    device = next(model.parameters()).device
    texts = []
    for example, limit in zip(chosen, limits, strict=True):
        prefix = encoder.prefix(example.instruction)
        ids = torch.tensor([[*prefix, *encoder.prompt(example)]], device=device)
        how = GenerationConfig(
            max_new_tokens=max(1, limit),
            prompt_lookup_num_tokens=NUM_LOOKUP_TOKENS,
            do_sample=False,
            use_cache=True,
            num_beams=1,
            repetition_penalty=1.0,
            eos_token_id=encoder.end_id,
            pad_token_id=encoder.pad_id,
        )
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=how)
        texts.append(encoder.decode(out[0, ids.shape[1] :].tolist()))
    return texts
