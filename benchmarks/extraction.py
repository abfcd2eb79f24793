"""Constrained decoding against transformers' ``generate``: sentences per second, same adapter and sentences.

``generate`` gets sorted batches and stops at the length of the constrained output. It is measured twice:
as a user would call it (the instruction in every row), and with keys and values of the instruction
computed once and handed over. ``ratio`` and ``ratio_batched`` are over the first, ``..._shared_prefix`` over
the second. An untrained adapter would open tags at random, so one is trained for some steps first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.corpora.sentences import sentences
from fedmedlora.corpora.synthetic import HOSPITALS, synthesize
from fedmedlora.extraction.decode import decode
from fedmedlora.extraction.generate import generate_texts
from fedmedlora.extraction.reference import decode_stepwise
from fedmedlora.model.cache import decoder
from fedmedlora.model.load import BaseModel, load_base_model
from fedmedlora.model.lora import attach_lora, read_adapter
from fedmedlora.model.memory import keep_freed_memory
from fedmedlora.model.tokens import Encoder
from fedmedlora.tasks.copying import is_tag
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.kinds import ner
from fedmedlora.training.site import LocalTraining, train_round

QUICK_LAYERS = 6


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def keep_layers(model: Any, num_layers: int) -> None:
    """Drop all decoder layers but the first ones."""
    stack = decoder(model)
    stack.layers = stack.layers[:num_layers]
    model.config.num_hidden_layers = num_layers


def ner_examples(part: str, num_notes: int, num_examples: int, *, with_gold: bool) -> list[Example]:
    """Sentences of 16 to 40 pieces of the first synthetic site under the study prompt (about 250 tokens)."""
    found: list[Example] = []
    for note in synthesize(HOSPITALS[0], num_notes, seed=0, part=part):
        rendered = ner.examples(note, sentences(note.text), CLINICAL, with_gold=with_gold)
        found += [e for e in rendered.examples if 16 <= len(e.pieces) <= 40]
    step = max(1, len(found) // num_examples)
    return found[::step][:num_examples]


def trained(base: BaseModel, adapter: Path | None, num_steps: int) -> Any:
    """The base model with the adapter in the folder ``adapter``, or with one trained here."""
    if adapter is not None:
        from peft import PeftModel

        return PeftModel.from_pretrained(base.model, str(adapter)).eval()
    model = attach_lora(base.model, rank=16, alpha=32)
    examples = [base.encoder.encode(e) for e in ner_examples("train", 60, 400, with_gold=True)]
    # The decision loss alone: a realistic number of tags after a dozen steps. Free generation of such an
    # adapter is no good, but its time is what is measured, and that is bounded by the limit.
    settings = LocalTraining(
        num_rounds=1,
        examples_per_step=4,
        steps=num_steps,
        warmup_steps=3,
        loss="decision",
        learning_rate=2e-3,
    )
    began = time.perf_counter()
    result = train_round(
        base, model, read_adapter(model), examples, settings, site="benchmark", round_num=1, seed=0
    )
    say(f"trained {num_steps} steps in {time.perf_counter() - began:.0f} s, loss {result.train_loss:.3f}")
    return model.eval()


def measure(
    model: Any,
    encoder: Encoder,
    examples: Sequence[Example],
    batch_sizes: Sequence[int],
    *,
    repetitions: int,
) -> dict[int, dict[str, list[float]]]:
    """Seconds of ``constrained``, ``generate`` and ``generate_shared_prefix`` per batch size, interleaved."""
    outputs = decode(model, encoder, examples)
    limits = [sum(len(encoder.piece(p)) for p in output) for output in outputs]
    found: dict[int, dict[str, list[float]]] = {}
    for size in batch_sizes:
        runs: dict[str, Callable[[], object]] = {
            "constrained": lambda size=size: decode(model, encoder, examples, batch_size=size),
            "generate": lambda size=size: generate_texts(
                model, encoder, examples, batch_size=size, max_new_tokens=limits
            ),
            "generate_shared_prefix": lambda size=size: generate_texts(
                model, encoder, examples, batch_size=size, max_new_tokens=limits, share_prefix=True
            ),
        }
        seconds = found[size] = {name: [] for name in runs}
        for _ in range(repetitions):
            for name, run in runs.items():
                began = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - began)
            say(f"batch {size}: " + ", ".join(f"{name} {s[-1]:.2f} s" for name, s in seconds.items()))
    return found


def ratio(seconds: dict[str, list[float]], over: str) -> tuple[float, float, float]:
    """Median, lowest and highest over the repetitions of time over ours."""
    each = [theirs / ours for theirs, ours in zip(seconds[over], seconds["constrained"], strict=True)]
    return statistics.median(each), min(each), max(each)


def same_text(model: Any, encoder: Encoder, examples: Sequence[Example], num_stepwise: int) -> bool:
    """Whether batches of 16, one at a time, and (on some) the step-by-step reference agree."""
    batched = decode(model, encoder, examples, batch_size=16)
    single = decode(model, encoder, examples, batch_size=1)
    plain = [decode_stepwise(model, encoder, e) for e in examples[:num_stepwise]]
    return batched == single and batched[:num_stepwise] == plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_LAYERS} layers, few sentences")
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout")
    parser.add_argument("--adapter", type=Path, help="folder of an adapter (PEFT's format); whole model only")
    parser.add_argument("--sentences", type=int, help="sentences in batches of 16; fewer one at a time")
    parser.add_argument("--steps", type=int, help="optimizer steps of the adapter trained here")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, help="threads that torch may use (default: its own choice)")
    args = parser.parse_args()
    if args.quick and args.adapter:
        parser.error("--quick drops layers, which no saved adapter fits; give one of --quick and --adapter")

    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    base = load_base_model("smollm2-135m")
    if args.quick:
        keep_layers(base.model, QUICK_LAYERS)
    model = trained(base, args.adapter, args.steps or (12 if args.quick else 8))
    num = args.sentences or (16 if args.quick else 32)
    examples = ner_examples("test", 40, num, with_gold=False)
    singles = examples[:: 4 if args.quick else 2]
    outputs = decode(model, base.encoder, examples)
    num_tags = sum(is_tag(p) and not p.startswith("</") for o in outputs for p in o)
    num_words = sum(not is_tag(p) for o in outputs for p in o)
    gold = [piece for e in ner_examples("test", 40, num, with_gold=True) for piece in e.target]
    num_gold = sum(is_tag(p) and not p.startswith("</") for p in gold)
    say(f"{num} sentences, {num_words} pieces, {num_tags} entities found, {num_gold} in the gold")

    with torch.inference_mode():
        one = measure(model, base.encoder, singles, [1], repetitions=args.repetitions)[1]
        many = measure(model, base.encoder, examples, [16], repetitions=args.repetitions)[16]
    result: dict[str, Any] = {}
    for key, seconds, count in (("", one, len(singles)), ("_batched", many, num)):
        for suffix, over in (("", "generate"), ("_shared_prefix", "generate_shared_prefix")):
            median, low, high = ratio(seconds, over)
            result[f"ratio{key}{suffix}"] = round(median, 3)
            result[f"ratio{key}{suffix}_range"] = [round(low, 3), round(high, 3)]
        result[f"sentences_per_s{key}"] = round(count / statistics.median(seconds["constrained"]), 3)
    result["same_text"] = same_text(model, base.encoder, singles, 2 if args.quick else 1)
    result |= {
        "num_sentences": num,
        "num_pieces": num_words,
        "num_entities": num_tags,
        "num_gold_entities": num_gold,
        "prefix_tokens": len(base.encoder.prefix(examples[0].instruction)),
        "num_layers": base.model.config.num_hidden_layers,
        "threads": torch.get_num_threads(),
        "quick": args.quick,
    }
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key}: {value}")


if __name__ == "__main__":
    main()
