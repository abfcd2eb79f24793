"""Logits at chosen positions only, and of chosen tokens only, by the model's own head and whatever it does
behind it.

The output head of a small model costs as much as several of its layers; a prompt's positions need no
logits, and a decision between a few tokens needs their rows of the head alone. The rest is left out in front
of the head and inside it, so scaling or soft-capping that a model applies to its logits stays in place.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from fedmedlora.model.tokens import TokenExample


@contextmanager
def _only(
    head: Any, rows: torch.Tensor, columns: torch.Tensor, tokens: torch.Tensor | None
) -> Iterator[None]:
    def keep(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0][rows, columns].unsqueeze(0), *inputs[1:])

    handle = head.register_forward_pre_hook(keep)
    if tokens is not None:
        head.__dict__["forward"] = functools.partial(_some, head, tokens)
    try:
        yield
    finally:
        handle.remove()
        if tokens is not None:
            del head.__dict__["forward"]


def _some(head: torch.nn.Linear, tokens: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    bias = None if head.bias is None else head.bias[tokens]
    return torch.nn.functional.linear(hidden, head.weight[tokens], bias)


def some_logits(head: Any, hidden: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """``head(hidden)[:, tokens]``, by these rows of the head alone where they can stand for all."""
    if not _has_rows(head):
        logits: torch.Tensor = head(hidden)[:, tokens]
        return logits
    return _some(head, tokens, hidden)


def _has_rows(head: torch.nn.Module) -> bool:
    """Whether some rows can stand for all: not if it is adapted, quantized, or called through a hook."""
    return type(head) is torch.nn.Linear and "forward" not in head.__dict__


def logits_at(
    model: Any,
    rows: torch.Tensor,
    columns: torch.Tensor,
    input_ids: torch.Tensor,
    *,
    tokens: torch.Tensor | None = None,
    **inputs: Any,
) -> torch.Tensor:
    """Logits (num_positions, vocabulary), float32, at ``(rows[i], columns[i])`` of the batch.

    ``input_ids``: (batch, tokens). ``tokens``: the logits of these alone, (num_positions, num_tokens).
    ``inputs``: what else the model's forward takes.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = base.get_output_embeddings()
    chosen = tokens if _has_rows(head) else None
    with _only(head, rows, columns, chosen):
        out = model(input_ids=input_ids, **inputs)
    logits: torch.Tensor = out.logits[0]
    if tokens is not None and chosen is None:
        logits = logits[:, tokens]
    return logits.float()


def precision_of(model: Any) -> torch.dtype:
    """The dtype that the model computes attention in: its embeddings', which nothing quantizes."""
    found: torch.dtype = model.get_input_embeddings().weight.dtype
    return found


def target_rows(
    batch: Sequence[TokenExample], pad_id: int, device: torch.device, *, with_prefix: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded ids (rows, tokens), and row and column of the logit that predicts each target token.

    Padding stands to the right, where the causal mask hides it from everything that counts. A column of -1
    is that of the prefix's last token, which is in no row.
    """
    texts = [((*e.prefix,) if with_prefix else ()) + e.prompt + e.target[:-1] for e in batch]
    width = max(1, *(len(text) for text in texts))
    ids = torch.tensor([[*text, *(pad_id,) * (width - len(text))] for text in texts], device=device)
    rows = [row for row, e in enumerate(batch) for _ in e.target]
    columns = [
        len(text) - len(e.target) + i
        for text, e in zip(texts, batch, strict=True)
        for i in range(len(e.target))
    ]
    return ids, torch.tensor(rows, device=device), torch.tensor(columns, device=device)


def tagged_mask(
    batch: Sequence[TokenExample], dtype: torch.dtype, device: torch.device, *, with_prefix: bool
) -> torch.Tensor | None:
    """What the tokens of ``target_rows`` may see where the examples are tagged; None: what came before, as
    usual.

    The prefix is read as always; behind it every token sees the prefix and all of its own sentence, before it
    and after it. Additive, (rows, 1, tokens, prefix_tokens + tokens), in ``dtype``; ``with_prefix``: the
    tokens hold the prefix.
    """
    assert len({e.is_tagged for e in batch}) == 1, "one mask serves all rows of a pass"
    if not batch[0].is_tagged:
        return None
    begins = [len(e.prefix) for e in batch]
    ends = [begin + len(e.prompt) + len(e.target) - 1 for begin, e in zip(begins, batch, strict=True)]
    first = 0 if with_prefix else begins[0]  # of the tokens; then all rows have one prefix
    sees = torch.arange(max(first + 1, *ends), device=device)
    asks = sees[first:, None]
    before, behind = (torch.tensor(of, device=device)[:, None, None] for of in (begins, ends))
    # (rows, 1, tokens, prefix_tokens + tokens)
    seen = torch.where(asks < before, sees <= asks, sees < behind)[:, None]
    mask = torch.zeros(seen.shape, dtype=dtype, device=device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)
