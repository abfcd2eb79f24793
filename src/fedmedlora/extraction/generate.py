"""transformers' own greedy ``generate`` in batches: bound by nothing, or by a grammar.

Free, for the zero-shot baseline, for the check that an adapter copies and stops by itself, and as what the
constrained decoder is measured against. Under a grammar, for forms that have one (``extraction/grammar.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList

from fedmedlora.extraction.grammar import Processor, rows_for
from fedmedlora.model.cache import Prefix, num_positions, record_prefix
from fedmedlora.model.tokens import Encoder
from fedmedlora.tasks.example import PLAIN, Example
from fedmedlora.tasks.form import load_form


@torch.inference_mode()
def generate_texts(
    model: Any,
    encoder: Encoder,
    examples: Sequence[Example],
    *,
    batch_size: int = 16,
    max_new_tokens: Sequence[int] | None = None,
    share_prefix: bool = False,
    under_grammar: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Greedy text of each example, in the order of ``examples``, up to the end token or the limit.

    Batches hold examples of one instruction, sorted by length, padded on the left. ``max_new_tokens``:
    a limit for each example (a batch runs to the largest of its limits, and each text is cut at its own);
    by default what the form of the example allows. ``share_prefix``: run the instruction once for all
    batches and hand its keys and values to ``generate``. ``under_grammar``: each answer is a sentence of its
    form's grammar, or the beginning of one where the limit cut it off. Raises ``ValueError`` for a batch
    size below 1, another number of limits than examples, and what ``rows_for`` refuses.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size}: at least 1 example is decoded at a time")
    if max_new_tokens is not None and len(max_new_tokens) != len(examples):
        raise ValueError(f"{len(max_new_tokens)} limits for {len(examples)} examples: give one for each")
    limits = [default_limit(encoder, e) for e in examples] if max_new_tokens is None else max_new_tokens
    texts = [""] * len(examples)
    num_done = 0
    groups: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        groups.setdefault(example.instruction, []).append(number)
    for instruction, numbers in groups.items():
        prefix_ids = encoder.prefix(instruction)
        device = next(model.parameters()).device
        prefix = record_prefix(model, prefix_ids, device) if share_prefix else None
        prompts = {n: encoder.prompt(examples[n]) for n in numbers}
        ordered = sorted(numbers, key=lambda n: (limits[n], len(prompts[n])), reverse=True)
        room = num_positions(model) - len(prefix_ids)
        for batch in _batches(ordered, batch_size, room, {n: (len(prompts[n]), limits[n]) for n in numbers}):
            # A limit of 0 asks for nothing, which ``generate`` would refuse.
            if (largest := max(limits[n] for n in batch)) > 0:
                rows = rows_for(encoder, [examples[n] for n in batch]) if under_grammar else None
                ids = [prompts[n] for n in batch]
                answers = _generate(model, encoder, prefix_ids, prefix, ids, largest, rows)
                for n, answer in zip(batch, answers, strict=True):
                    texts[n] = encoder.decode(answer_ids(answer, encoder.end_id, limits[n]))
            num_done += len(batch)
            if progress:
                progress(num_done, len(examples))
    return texts


def _batches(
    ordered: Sequence[int], size: int, room: float, needs: Mapping[int, tuple[int, int]]
) -> Iterator[list[int]]:
    """Rows that fit together: ``size`` at most, and the longest prompt with the largest limit in ``room``.

    ``needs``: (tokens of the prompt, limit) of each. A row that does not fit by itself is alone, and its
    answer is cut, nobody else's.
    """
    batch: list[int] = []
    for number in ordered:
        joined = [needs[n] for n in (*batch, number)]
        too_wide = max(prompt for prompt, _ in joined) + max(limit for _, limit in joined) > room
        if batch and (len(batch) == size or too_wide):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def default_limit(encoder: Encoder, example: Example) -> int:
    """Tokens that an answer may take, by the form's own rule."""
    assert example.form != PLAIN, "words of its own have no rule: give limits"
    return load_form(example.form).limit(sum(len(encoder.piece(piece.form)) for piece in example.pieces))


def _generate(
    model: Any,
    encoder: Encoder,
    prefix_ids: tuple[int, ...],
    prefix: Prefix | None,
    prompts: Sequence[tuple[int, ...]],
    max_new_tokens: int,
    rows: Processor | None,
) -> list[list[int]]:
    """New token ids of each row, the end token and padding behind it included."""
    device = next(model.parameters()).device
    width = max(len(prompt) for prompt in prompts)
    padding = [width - len(prompt) for prompt in prompts]
    pad = (encoder.pad_id,)
    # With keys and values of the prefix at hand, padding has to stand behind it.
    if prefix is None:
        ids = [pad * gap + prefix_ids + p for gap, p in zip(padding, prompts, strict=True)]
        seen = [[0] * gap + [1] * (len(prefix_ids) + width - gap) for gap in padding]
    else:
        ids = [prefix_ids + pad * gap + p for gap, p in zip(padding, prompts, strict=True)]
        seen = [[1] * len(prefix_ids) + [0] * gap + [1] * (width - gap) for gap in padding]
    # Learned positions end there.
    max_new_tokens = int(max(1, min(max_new_tokens, num_positions(model) - len(ids[0]))))
    given = {} if prefix is None else {"past_key_values": _repeated(prefix, len(prompts))}
    out = model.generate(
        input_ids=torch.tensor(ids, device=device),
        attention_mask=torch.tensor(seen, device=device),
        generation_config=GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=True,
            # transformers fills what is unset from the model's own settings; a repetition penalty
            # there would punish copying.
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            encoder_no_repeat_ngram_size=0,
            eos_token_id=encoder.end_id,
            pad_token_id=encoder.pad_id,
        ),
        logits_processor=LogitsProcessorList([rows] if rows else []),
        **given,
    )
    answers: list[list[int]] = out[:, len(ids[0]) :].tolist()
    return answers


def _repeated(prefix: Prefix, num_rows: int) -> DynamicCache:
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(zip(prefix.keys, prefix.values, strict=True)):
        cache.update(keys.expand(num_rows, -1, -1, -1), values.expand(num_rows, -1, -1, -1), layer)
    return cache


def answer_ids(ids: Sequence[int], end_id: int, limit: int) -> list[int]:
    """Token ids before the end token, ``limit`` at most."""
    answer = list(ids[:limit])
    return answer[: answer.index(end_id)] if end_id in answer else answer
