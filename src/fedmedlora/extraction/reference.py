"""The plain constrained decoder: one example, one token at a time, the whole text anew at each step.

Slow and obviously right. ``decode`` gives the same output; tests hold the two equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fedmedlora.extraction.scores import largest_share
from fedmedlora.extraction.walk import begin, step
from fedmedlora.model.logits import logits_at
from fedmedlora.model.tokens import Encoder
from fedmedlora.tasks.example import Example


@torch.inference_mode()
def decode_stepwise(model: Any, encoder: Encoder, example: Example) -> tuple[str, ...]:
    """Output pieces of greedy decoding under the copy constraint.

    At each step the model's logits for the next token are compared over the allowed tokens; of equal ones
    the token of the earliest option wins (copying stands first).
    """
    return decode_stepwise_scored(model, encoder, example)[0]


@torch.inference_mode()
def decode_stepwise_scored(
    model: Any, encoder: Encoder, example: Example
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """``decode_stepwise``, and the share of each piece: see ``decode.decode_scored``."""
    device = next(model.parameters()).device
    ids = [*encoder.prefix(example.instruction), *encoder.prompt(example)]
    walk, output = begin(encoder, example)
    shares, open_share = [1.0] * len(output), 1.0
    while allowed := walk.allowed:
        token = allowed[0]
        if len(allowed) > 1:
            row, column = torch.tensor([0], device=device), torch.tensor([len(ids) - 1], device=device)
            text = torch.tensor([ids], device=device)
            logits = logits_at(model, row, column, text, use_cache=False)[0]
            scores = [float(logits[i]) for i in allowed]
            token = allowed[scores.index(max(scores))]
            open_share *= largest_share(np.array(scores, np.float32))
        ids.append(token)
        walk, done = step(encoder, walk, token)
        for piece in done:
            output = (*output, piece)
            shares.append(open_share)
            open_share = 1.0
    return output, tuple(shares)
