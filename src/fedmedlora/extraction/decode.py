"""Constrained decoding, fast: guess that the output copies on, check the guess in one pass, go on from
the first place where it was wrong.

The same output as ``decode_stepwise`` by construction: every decision is taken by the same comparison of
the same logits behind the same tokens. That a draft may be checked in parallel is speculative decoding
(Leviathan et al., arXiv:2211.17192) with the input as the draft, as in Yang et al., "Inference with
Reference", arXiv:2304.04487. Here the constraint leaves only a few tokens open at each place, so only
their rows of the output head are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedmedlora.extraction.draft import Draft, Memory, draft
from fedmedlora.extraction.pool import Pool
from fedmedlora.extraction.reference import decode_stepwise_scored
from fedmedlora.extraction.scores import largest_share, scores_at
from fedmedlora.extraction.walk import Walk, begin, step
from fedmedlora.model.cache import record_prefix
from fedmedlora.model.slides import slides
from fedmedlora.model.tokens import Encoder
from fedmedlora.tasks.example import Example

# Pieces guessed in one pass, over all rows. On a CPU a pass over the 135M demo model costs about 55 ms, which
# the rows share, and 2.5 ms for each token, kept or thrown away; on a GPU it costs about the same
# whatever it computes.
_FIRST_PER_PASS = {"cpu": 16, "cuda": 1024}  # after a wrong guess
_PIECES_PER_PASS = {"cpu": 48, "cuda": 4096}  # at most, as guesses hold
_SMALLEST_WINDOW, _LARGEST_WINDOW = 4, 64


@dataclass(slots=True)
class _Row:
    """One example on its way. ``pending``: tokens that are settled and not yet in the pool."""

    number: int
    example: Example
    walk: Walk
    output: list[str]
    pending: list[int]
    position: int  # of the first pending token, from the start of the prefix
    slots: list[int] = field(default_factory=list)
    num_held: int = 0  # drafts in a row that held to their end
    shares: list[float] = field(default_factory=list)  # one per output piece, see ``decode_scored``
    open_share: float = 1.0  # of the piece whose tokens are being written


@torch.inference_mode()
def decode(
    model: Any,
    encoder: Encoder,
    examples: Sequence[Example],
    *,
    batch_size: int = 16,
    window: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[str, ...]]:
    """Output pieces of each example, in the order of ``examples``: greedy under the copy constraint.

    Arguments as in ``decode_scored``.
    """
    found = decode_scored(model, encoder, examples, batch_size=batch_size, window=window, progress=progress)
    return [output for output, _ in found]


@torch.inference_mode()
def decode_scored(
    model: Any,
    encoder: Encoder,
    examples: Sequence[Example],
    *,
    batch_size: int = 16,
    window: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
    """(output pieces, each one's share) of each example: greedy under the copy constraint.

    The share of a piece is the probability that the model gives it among the pieces that the constraint
    allows at its place: the product of the softmax over the allowed tokens at each of its tokens.

    ``model``: a causal language model in eval mode, with or without LoRA. ``batch_size``: examples in
    flight together; a finished one makes room for the next. ``window``: pieces to guess at a time; by
    default it grows while guesses hold. Neither changes the output (in float32, up to ties within
    rounding). ``progress(num_done, num_examples)`` is called when examples are finished.
    Raises ``ValueError`` for a batch size or window below 1.
    """
    if batch_size < 1 or (window is not None and window < 1):
        raise ValueError(f"batch_size {batch_size}, window {window}: both are counts of at least 1")
    if slides(model):  # the pool shows every layer everything, which such layers do not see
        return [decode_stepwise_scored(model, encoder, example) for example in examples]
    outputs: list[tuple[tuple[str, ...], tuple[float, ...]]] = [((), ())] * len(examples)
    groups: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        groups.setdefault(example.instruction, []).append(number)
    num_done = 0
    memory = Memory()

    def finish(row: _Row) -> None:
        nonlocal num_done
        outputs[row.number] = (tuple(row.output), tuple(row.shares))
        num_done += 1
        if progress:
            progress(num_done, len(examples))

    for instruction, numbers in groups.items():
        chosen = [(n, examples[n]) for n in numbers]
        _decode_group(model, encoder, instruction, chosen, batch_size, window, memory, finish)
    return outputs


def _decode_group(
    model: Any,
    encoder: Encoder,
    instruction: str,
    numbered: Sequence[tuple[int, Example]],
    batch_size: int,
    window: int | None,
    memory: Memory,
    finish: Callable[[_Row], None],
) -> None:
    """Decode examples of one instruction, whose keys and values are computed once."""
    device = next(model.parameters()).device
    prefix_ids = encoder.prefix(instruction)
    pool = Pool(record_prefix(model, prefix_ids, device))
    # The longest first: at the end, when rows leave and none comes in, only short ones are under way.
    waiting = sorted(numbered, key=lambda pair: len(pair[1].pieces))
    rows: list[_Row] = []
    while rows or waiting:
        while waiting and len(rows) < batch_size:
            number, example = waiting.pop()
            walk, output = begin(encoder, example)
            row = _Row(number, example, walk, list(output), list(encoder.prompt(example)), len(prefix_ids))
            row.shares = [1.0] * len(output)
            rows.append(row)
        drafts = [
            draft(encoder, memory, row.walk, window or _window(device, len(rows), row.num_held))
            for row in rows
        ]
        scores = _pass(model, pool, rows, drafts)
        for row, guess in zip(rows, drafts, strict=True):
            if guess.decisions:
                _settle(encoder, memory, pool, row, guess, scores)
            else:
                for taken in guess.steps:
                    _write(row, taken.done)
                pool.release(row.slots)
                finish(row)
        rows = [row for row, guess in zip(rows, drafts, strict=True) if guess.decisions]


def _window(device: torch.device, num_rows: int, num_held: int) -> int:
    """Pieces to guess for one of ``num_rows`` rows: twice as many each time that a guess held."""
    kind = device.type if device.type in _PIECES_PER_PASS else "cuda"
    first = _FIRST_PER_PASS[kind] // num_rows
    largest = min(_LARGEST_WINDOW, _PIECES_PER_PASS[kind] // num_rows)
    return max(_SMALLEST_WINDOW, min(largest, first << min(num_held, 8)))


def _pass(
    model: Any, pool: Pool, rows: Sequence[_Row], drafts: Sequence[Draft]
) -> list[npt.NDArray[np.float32]]:
    """Feed the rows' pending tokens and drafts; the scores of all decisions, row after row."""
    ids: list[int] = []
    owners: list[int] = []
    positions: list[int] = []
    asked: list[tuple[int, tuple[int, ...]]] = []
    for row, guess in zip(rows, drafts, strict=True):
        if not guess.decisions:
            continue
        first = len(ids) + len(row.pending)
        asked += [(first + d.at - 1, d.allowed) for d in guess.decisions]
        fed = [*row.pending, *[s.token for s in guess.steps[: guess.num_fed]]]
        ids += fed
        owners += [row.number] * len(fed)
        positions += range(row.position, row.position + len(fed))
    if not ids:
        return []
    slots, mask = pool.place(owners, positions)
    at = 0
    for row, guess in zip(rows, drafts, strict=True):
        if guess.decisions:
            num_fed = len(row.pending) + guess.num_fed
            row.slots += slots[at : at + num_fed]
            at += num_fed
    return scores_at(model, pool, ids, positions, mask, asked)[::-1]


def _settle(
    encoder: Encoder,
    memory: Memory,
    pool: Pool,
    row: _Row,
    guess: Draft,
    scores: list[npt.NDArray[np.float32]],
) -> None:
    """Keep the draft up to the first wrong guess, and put the model's choice there.

    ``scores``: those of this row's decisions stand at the end, the first one last; they are taken off.
    """
    own = [scores.pop() for _ in guess.decisions]
    num_kept, choice = len(guess.steps), None
    shares: dict[int, float] = {}  # place in the draft -> share of the token that is chosen there
    for decision, values in zip(guess.decisions, own, strict=True):
        token = decision.allowed[int(np.argmax(values))]  # the first of equal ones
        shares[decision.at] = largest_share(values)
        if decision.at == len(guess.steps) or guess.steps[decision.at].token != token:
            num_kept, choice = decision.at, token
            break
    held = choice is None or num_kept == len(guess.steps)
    row.num_held = row.num_held + 1 if held else 0

    num_cached = len(row.pending) + min(num_kept, guess.num_fed)
    num_thrown = len(row.pending) + guess.num_fed - num_cached
    settled = [*row.pending, *[s.token for s in guess.steps[:num_kept]]]
    for at, taken in enumerate(guess.steps[:num_kept]):
        _take(memory, row, taken.walk, taken.done, shares.get(at, 1.0))
    if choice is not None:
        _take(memory, row, *step(encoder, row.walk, choice), shares[num_kept])
        settled.append(choice)
    row.pending = settled[num_cached:]
    row.position += num_cached
    if num_thrown:
        pool.release(row.slots[-num_thrown:])
        del row.slots[-num_thrown:]


def _take(memory: Memory, row: _Row, walk: Walk, done: tuple[str, ...], share: float) -> None:
    if done:
        memory.learn(row.walk, done[0])
    row.open_share *= share
    _write(row, done)
    row.walk = walk


def _write(row: _Row, done: tuple[str, ...]) -> None:
    """Pieces that are complete: the first with the share of its tokens, others were forced."""
    for piece in done:
        row.output.append(piece)
        row.shares.append(row.open_share)
        row.open_share = 1.0
