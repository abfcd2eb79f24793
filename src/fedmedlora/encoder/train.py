"""One site, one round of the token classifier: every parameter is trained."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from fedmedlora.encoder.classifier import Classifier
from fedmedlora.encoder.examples import TaggedExample
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.model.memory import peak_memory_bytes, return_freed_memory
from fedmedlora.training.schedule import learning_rate, round_of_examples
from fedmedlora.training.site import LocalResult


@dataclass(frozen=True, slots=True)
class EncoderTraining:
    """How a site trains in a round: AdamW, fresh each round; the rate warms up and decays over all rounds."""

    num_rounds: int
    steps: int
    examples_per_step: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0


def train_encoder_round(
    classifier: Classifier,
    current: Adapter,
    examples: Sequence[TaggedExample],
    settings: EncoderTraining,
    *,
    site: str,
    round_num: int,
    seed: int,
    on_step: Callable[[int, int, float], None] | None = None,
) -> LocalResult:
    """Train from ``current`` for one round. Same arguments, same result on the same machine.

    Raises ``ValueError`` without examples, and when the loss is no longer finite.
    """
    if not examples:
        raise ValueError(f"site {site!r} has no example to train on; check what its notes annotate")
    began = time.perf_counter()
    classifier.write_weights(current)
    size = settings.examples_per_step
    chosen = round_of_examples(examples, num=settings.steps * size, round_num=round_num, seed=seed, site=site)
    parameters = list(classifier.model.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=False
    )
    classifier.model.train()
    losses: list[float] = []
    digest = hashlib.sha256(f"{seed}/{site}/{round_num}/encoder".encode()).digest()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(digest[:7], "big"))  # for dropout
            for step in range(settings.steps):
                rate = learning_rate(
                    (round_num - 1) * settings.steps + step,
                    peak=settings.learning_rate,
                    warmup_steps=settings.warmup_steps,
                    total_steps=settings.num_rounds * settings.steps,
                    schedule="cosine",
                )
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad(set_to_none=True)
                loss = step_loss(classifier, chosen[step * size : (step + 1) * size], backward=True)
                if not np.isfinite(loss):
                    raise ValueError(f"the training loss is {loss}: lower encoder.learning_rate")
                torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
                optimizer.step()
                losses.append(loss)
                if on_step:
                    on_step(step + 1, settings.steps, loss)
    finally:
        classifier.model.eval()
        classifier.model.zero_grad(set_to_none=True)
    result = LocalResult(
        adapter=classifier.read_weights(),
        train_loss=sum(losses) / len(losses),
        num_steps=settings.steps,
        num_examples=len(chosen),
        seconds=time.perf_counter() - began,
        peak_memory_bytes=peak_memory_bytes(classifier.device.type),
    )
    return_freed_memory()
    return result


def step_loss(classifier: Classifier, examples: Sequence[TaggedExample], *, backward: bool) -> float:
    """Mean cross-entropy over (piece, asked type) of all examples together; types not asked play no part."""
    total = sum(num_decisions(example) for example in examples)
    found = 0.0
    for task, group in by_task(examples).items():
        logits = classifier.model(task, *padded(group, classifier))
        # (batch, num_pieces, num_types): which decisions count, and what they should be.
        counts = torch.zeros(logits.shape[:3], dtype=torch.bool)
        tags = torch.zeros(logits.shape[:3], dtype=torch.long)
        for row, example in enumerate(group):
            real = [i for i, (start, end) in enumerate(example.offsets) if end > start]
            counts[row, torch.tensor(real)[:, None], torch.tensor(example.asked)[None, :]] = True
            tags[row, : len(example.ids)] = torch.from_numpy(example.tags)
        where = counts.to(logits.device)
        loss = cross_entropy(logits[where], tags.to(logits.device)[where], reduction="sum") / total
        if backward:
            loss.backward()  # type: ignore[no-untyped-call]
        found += float(loss.detach())
    return found


def num_decisions(example: TaggedExample) -> int:
    """Supervised decisions of one example: its pieces times the types in question.

    Sites are weighed by them.
    """
    return len(example.asked) * sum(end > start for start, end in example.offsets)


def by_task(examples: Sequence[TaggedExample]) -> dict[str, list[TaggedExample]]:
    """Examples by task: each has a head of its own."""
    found: dict[str, list[TaggedExample]] = {}
    for example in examples:
        found.setdefault(example.task, []).append(example)
    return found


def padded(
    examples: Sequence[TaggedExample], classifier: Classifier
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids, attention mask, mark) of ``examples``, each (batch, longest)."""
    width = max(len(example.ids) for example in examples)
    shape = (len(examples), width)
    ids = torch.full(shape, classifier.tokenizer.pad_token_id or 0)
    attention, mark = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    for row, example in enumerate(examples):
        length = len(example.ids)
        ids[row, :length] = torch.tensor(example.ids)
        attention[row, :length] = 1
        mark[row, :length] = torch.tensor(example.mark)
    return ids.to(classifier.device), attention.to(classifier.device), mark.to(classifier.device)
