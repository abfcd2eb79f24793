"""Training, against the trainers that a user would pick: one optimizer step of 32 sentences, in turn.

* TRL's SFTTrainer on prompts and completions, padded, loss on the completion alone (the published recipe);
* the same with packing;
* transformers' Trainer with PEFT's model, padded.

The same model with the same adapter, tokens, precision and 32 sentences for everybody; micro-batches of four
sorted by length, no gradient checkpointing, no learning (rate 0), so that every step repeats the first and
the losses can be compared. What a trainer does between steps is not timed. Losses are shown: rows of a packed
batch must not see one another.

TRL is no dependency of this project: ``pip install trl datasets``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from training import MICRO_BATCH, bound, sentences_of

from fedmedlora.model.cache import decoder
from fedmedlora.model.load import BaseModel, load_base_model
from fedmedlora.model.lora import attach_lora
from fedmedlora.model.memory import keep_freed_memory
from fedmedlora.model.slices import pass_tokens_of
from fedmedlora.training.batches import shared_prefix_step

PACKED_TOKENS = 2048

Step = Callable[[], tuple[float, float]]  # -> (seconds, loss)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def columns(examples: Sequence[Any], *, with_labels: bool) -> dict[str, list[list[int]]]:
    """The tokens of prompt, input and target, and which are the target."""
    found: dict[str, list[list[int]]] = {"input_ids": [], "labels" if with_labels else "completion_mask": []}
    for e in examples:
        ids = [*e.prefix, *e.prompt, *e.target]
        start = len(ids) - len(e.target)
        found["input_ids"].append(ids)
        if with_labels:
            found["labels"].append([-100] * start + ids[start:])
        else:
            found["completion_mask"].append([0] * start + [1] * len(e.target))
    return found


def ours(base: BaseModel, model: Any, examples: Sequence[Any]) -> Step:
    def step() -> tuple[float, float]:
        model.zero_grad(set_to_none=True)
        began = time.perf_counter()
        loss = shared_prefix_step(
            model,
            examples,
            pad_id=base.encoder.pad_id,
            device=base.device,
            micro_batch=MICRO_BATCH,
            pass_tokens=pass_tokens_of(base.device),
            loss="lm",
            decision_weight=1.0,
        )
        return time.perf_counter() - began, loss

    return step


def through(trainer: Any) -> Step:
    """Steps of a Trainer: timed from the step's beginning to its end, by its own callbacks."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        began, seconds = 0.0, 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.seconds = time.perf_counter() - self.began

    clock = Clock()
    trainer.add_callback(clock)

    def step() -> tuple[float, float]:
        trainer.state.log_history = []
        loss = trainer.train().training_loss
        return clock.seconds, float(loss)

    return step


def settings(kind: type, folder: str, num_rows: int, *, precision: str, **more: Any) -> Any:
    return kind(
        output_dir=folder,
        max_steps=1,
        per_device_train_batch_size=min(MICRO_BATCH, num_rows),
        gradient_accumulation_steps=-(-num_rows // MICRO_BATCH),
        learning_rate=0.0,
        weight_decay=0.0,
        bf16=False,  # the model's weights are in the precision that is measured already
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        **more,
    )


def in_order(trainer_kind: type) -> type:
    """The same trainer, with rows in the order of the data set: sorted by length."""

    class InOrder(trainer_kind):  # type: ignore[misc, valid-type]
        def _get_train_sampler(self, *args: Any, **more: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    return InOrder


def trl(base: BaseModel, model: Any, examples: Sequence[Any], folder: str, *, packing: bool) -> Step:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_dict(columns(examples, with_labels=False))
    num_rows = len(examples)
    if packing:  # how many rows come of it is counted first, so that one step is all of them
        from trl.data_utils import pack_dataset

        num_rows = len(pack_dataset(data, PACKED_TOKENS, "bfd"))
    args = settings(
        SFTConfig,
        folder,
        num_rows,
        precision=base.precision,
        max_length=PACKED_TOKENS,
        packing=packing,
        completion_only_loss=True,
        dataset_num_proc=1,
    )
    trainer = in_order(SFTTrainer)(
        model=model, args=args, train_dataset=data, processing_class=base.encoder.tokenizer
    )
    return through(trainer)


def plain_trainer(base: BaseModel, model: Any, examples: Sequence[Any], folder: str) -> Step:
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    args = settings(TrainingArguments, folder, len(examples), precision=base.precision)
    trainer = in_order(Trainer)(
        model=model,
        args=args,
        train_dataset=Dataset.from_dict(columns(examples, with_labels=True)),
        data_collator=DataCollatorForSeq2Seq(base.encoder.tokenizer),
    )
    return through(trainer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=0, help="of the model, the first ones; 0: all")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--tasks", nargs="+", default=["ner", "modifiers"])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    keep_freed_memory()
    base = load_base_model("smollm2-135m", precision=args.precision)
    if args.layers:
        stack = decoder(base.model)
        stack.layers = stack.layers[: args.layers]
        base.model.config.num_hidden_layers = args.layers
    model = attach_lora(base.model, rank=16, alpha=32)
    model.train()
    found: dict[str, Any] = {"layers": base.model.config.num_hidden_layers, "precision": base.precision}
    print("| task | trainer | s a step | times slower than shared prefix | loss |\n|---|---|---|---|---|")
    for task in args.tasks:
        examples = sorted(sentences_of(task, base.encoder), key=len, reverse=True)
        with tempfile.TemporaryDirectory() as folder:
            steps = {
                "shared prefix": ours(base, model, examples),
                "TRL, padded": trl(base, model, examples, folder, packing=False),
                "TRL, packed": trl(base, model, examples, folder, packing=True),
                "transformers Trainer, padded": plain_trainer(base, model, examples, folder),
            }
            seconds: dict[str, list[float]] = {name: [] for name in steps}
            losses: dict[str, float] = {}
            for number in range(args.repetitions + 1):
                for name, step in steps.items():
                    took, losses[name] = step()
                    say(f"{task} {name}: {took:.2f} s, loss {losses[name]:.6f}")
                    if number:  # the first time around warms up
                        seconds[name].append(took)
        for name, times in seconds.items():
            ratios = sorted(a / b for a, b in zip(times, seconds["shared prefix"], strict=True))
            print(
                f"| {task} ({len(examples[0].prefix)} tokens) | {name} | {statistics.median(times):.2f} "
                f"| {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) "
                f"| {losses[name]:.5f} |",
                flush=True,
            )
        found[task] = {
            "seconds": seconds,
            "losses": losses,
            "bound": bound(base.model.config, examples, all_logits=True),
            "bound_same_head": bound(base.model.config, examples, all_logits=False),
        }
        print(
            f"| {task} | bound from operations, padded | | {found[task]['bound']:.2f} "
            f"({found[task]['bound_same_head']:.2f} without unneeded logits) | |",
            flush=True,
        )
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
