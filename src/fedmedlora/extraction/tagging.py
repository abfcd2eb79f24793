"""Parallel tagging: the words of form "tags", all of a sentence decided in one pass.

The sentence is read once, every token of it seeing all others. At the end of each of its pieces the model's
logits of the words that are possible there (``tasks/tagging.py``) say what the piece is, each by itself; of
all sequences that do not contradict themselves the likeliest is taken (Viterbi,
https://doi.org/10.1109/TIT.1967.1054010, over two states: a mention is open, or none is).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedmedlora.model.cache import Prefix, prefix_cache, record_prefix
from fedmedlora.model.logits import logits_at, precision_of, tagged_mask, target_rows
from fedmedlora.model.slices import micro_batches, pass_tokens_of
from fedmedlora.model.tokens import Encoder, TokenExample
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.tagging import NONE, SAME, options, runs

Words = tuple[str, ...]
Scores = npt.NDArray[np.float64]  # (num_pieces, num_words): log of the softmax over the words


@torch.inference_mode()
def tag(
    model: Any,
    encoder: Encoder,
    examples: Sequence[Example],
    *,
    batch_size: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[Words, tuple[float, ...]]]:
    """(the word of each solid piece, how sure the model is of each mention in them) of each example.

    A mention's probability is that of its label at its first piece, of ``SAME`` at the others, and of
    anything but ``SAME`` behind it. Pieces that cannot be decided are left out: the model says nothing there.

    ``model``: a causal language model in eval mode, with or without LoRA. ``batch_size``: rows of a pass, at
    most; it does not change the words (in float32, up to ties within rounding). ``progress(num_done,
    num_examples)`` is called after each pass. Raises ``ValueError`` for a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size}: at least 1 example is read at a time")
    found: list[tuple[Words, tuple[float, ...]]] = [((), ())] * len(examples)
    device = next(model.parameters()).device
    groups: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        groups.setdefault(example.instruction, []).append(number)
    num_done = 0
    for instruction, numbers in groups.items():
        prefix_ids = encoder.prefix(instruction)
        prefix = record_prefix(model, prefix_ids, device)
        rows = [(n, encoder.encode(replace(examples[n], target=()))) for n in numbers]
        rows.sort(key=lambda row: len(row[1]), reverse=True)
        for batch in micro_batches(
            rows, batch_size, pass_tokens=pass_tokens_of(device), length=lambda row: len(row[1])
        ):
            scored = _scored(model, encoder, [row for _, row in batch], prefix)
            for (n, row), scores in zip(batch, scored, strict=True):
                words = options(row.example.labels)
                chosen = likeliest(scores, words)
                ends = encoder.sentence(row.example)[1]
                decided = np.array([end is not None for end in ends], dtype=bool)
                found[n] = chosen, confidences(scores, chosen, words, decided)
            num_done += len(batch)
            if progress:
                progress(num_done, len(examples))
    return found


def likeliest(scores: Scores, words: Sequence[str]) -> Words:
    """The likeliest sequence in which ``SAME`` stands in mentions only; ``scores``: of ``words``."""
    none, same = words.index(NONE), words.index(SAME)
    labels = [i for i in range(len(words)) if i not in (none, same)]
    # Best sequences so far that end without, and with, an open mention: (score, words as indices, newest
    # first).
    closed: tuple[float, tuple[Any, ...]] = (0.0, ())
    opened: tuple[float, tuple[Any, ...]] = (-np.inf, ())
    for row in scores.tolist():
        best = max(closed, opened, key=lambda path: path[0])
        begins = max(labels, key=lambda i: row[i]) if labels else none
        goes_on = (opened[0] + row[same], (same, opened[1]))
        starts = (best[0] + row[begins], (begins, best[1])) if labels else (-np.inf, ())
        closed = (best[0] + row[none], (none, best[1]))
        opened = max(starts, goes_on, key=lambda path: path[0])
    path = max(closed, opened, key=lambda found: found[0])[1]
    chosen: list[str] = []
    while path:
        chosen.append(words[path[0]])
        path = path[1]
    return tuple(chosen[::-1])


def confidences(
    scores: Scores, chosen: Words, words: Sequence[str], decided: npt.NDArray[np.bool_] | None = None
) -> tuple[float, ...]:
    """See ``tag``; one for each mention of ``chosen``, in their order.

    ``decided``: of each piece whether the model said anything of it, (num_pieces,). None: of all.
    """
    decided = np.ones(len(chosen), dtype=bool) if decided is None else decided
    shares = np.exp(scores)
    same = words.index(SAME)
    goes_on = np.where(decided, shares[:, same], 1.0)
    ends = np.append(np.where(decided, 1.0 - shares[:, same], 1.0), 1.0)  # and the end of the text
    return tuple(
        float(shares[first, words.index(chosen[first])] * goes_on[first + 1 : after].prod() * ends[after])
        for first, after in runs(chosen)
    )


def _scored(model: Any, encoder: Encoder, rows: Sequence[TokenExample], prefix: Prefix) -> list[Scores]:
    """Of each row the scores of its words; a piece that cannot be decided is ``NONE``, or goes on."""
    device = prefix.keys[0].device
    ids, _, _ = target_rows(rows, encoder.pad_id, device, with_prefix=False)
    ends_of = [encoder.sentence(row.example)[1] for row in rows]
    places = [(at, end - 1) for at, ends in enumerate(ends_of) for end in ends if end is not None]
    tokens_of = [encoder.tag_tokens(row.example.labels) for row in rows]
    tokens = sorted({token for of in tokens_of for token in of.values()})
    table = np.zeros((0, len(tokens)), np.float64)
    if places:
        logits = logits_at(
            model,
            torch.tensor([row for row, _ in places], device=device),
            torch.tensor([column for _, column in places], device=device),
            ids,
            tokens=torch.tensor(tokens, device=device),
            past_key_values=prefix_cache(prefix),
            attention_mask=tagged_mask(rows, precision_of(model), device, with_prefix=False),
        )
        table = logits.double().cpu().numpy()
    found, at = [], 0
    for ends, of in zip(ends_of, tokens_of, strict=True):
        columns = [tokens.index(token) for token in of.values()]  # in the order of the words
        scores = np.full((len(ends), len(of)), -np.inf)
        for i, end in enumerate(ends):
            if end is None:
                scores[i, [list(of).index(NONE), list(of).index(SAME)]] = np.log(0.5)
            else:
                scores[i] = _log_softmax(table[at, columns])
                at += 1
        found.append(scores)
    return found


def _log_softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
