"""Steps of the trainers that a user would pick, as functions that tell their own seconds and loss.

Everybody gets the same model with the same adapter, the same tokens and the same rows in the same order
(sorted by length, so that little is padded), no gradient checkpointing, and a learning rate of zero, so that
every step repeats the first and losses can be compared. Timed is the step alone, optimizer included: what
a trainer does between steps, and before the first, is not.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from fedmedlora.model.load import BaseModel
from fedmedlora.training.batches import padded_step
from fedmedlora.training.site import LocalTraining, optimizer_step

# (seconds, loss) of one optimizer step
Step = Callable[[], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Batches:
    """``micro_batch``: rows of a forward pass. ``packed_tokens``: of a row that holds packed examples."""

    micro_batch: int
    packed_tokens: int


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


def ours(base: BaseModel, model: Any, examples: Sequence[Any], batches: Batches) -> Step:
    """The optimizer step of ``training/site.py``: what a site really runs."""
    how = LocalTraining(num_rounds=1, micro_batch=batches.micro_batch, loss="lm", weight_decay=0.0)
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=0.0, weight_decay=0.0
    )

    def step() -> tuple[float, float]:
        wait(base.device)
        began = time.perf_counter()
        loss = optimizer_step(base, model, examples, how, optimizer, 0.0, ())
        wait(base.device)
        return time.perf_counter() - began, loss

    return step


def own_padded(base: BaseModel, model: Any, examples: Sequence[Any], batches: Batches, *, lean: bool) -> Step:
    """Padded rows without any trainer around them; ``lean``: no logits where no loss is taken."""

    def step() -> tuple[float, float]:
        model.zero_grad(set_to_none=True)
        wait(base.device)
        began = time.perf_counter()
        loss = padded_step(
            model,
            examples,
            pad_id=base.encoder.pad_id,
            device=base.device,
            micro_batch=batches.micro_batch,
            loss="lm",
            decision_weight=1.0,
            needed_logits_only=lean,
        )
        wait(base.device)
        return time.perf_counter() - began, loss

    return step


def trl(
    base: BaseModel,
    model: Any,
    examples: Sequence[Any],
    batches: Batches,
    folder: str,
    *,
    packing: bool = False,
    liger: bool = False,
) -> Step:
    """TRL's SFTTrainer on prompts and completions, the loss on the completion alone."""
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    data = Dataset.from_dict(columns(examples, with_labels=False))
    num_rows, micro_batch = len(examples), batches.micro_batch
    if packing:  # how many rows come of it is counted first, so that one step is all of them
        from trl.data_utils import pack_dataset

        num_rows = len(pack_dataset(data, batches.packed_tokens, "bfd"))
        micro_batch = 1  # rows of a pass are strung together, and attention costs their length squared
    with quiet():
        args = SFTConfig(
            **arguments(base, folder, num_rows, micro_batch, liger=liger),
            max_length=batches.packed_tokens if packing else None,
            packing=packing,
            completion_only_loss=True,
            dataset_num_proc=1,
        )
        trainer = in_order(SFTTrainer)(
            model=model, args=args, train_dataset=data, processing_class=base.encoder.tokenizer
        )
    return through(trainer, base.device)


def plain_trainer(
    base: BaseModel,
    model: Any,
    examples: Sequence[Any],
    batches: Batches,
    folder: str,
    *,
    liger: bool = False,
) -> Step:
    """transformers' Trainer with PEFT's model."""
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    with quiet():
        args = TrainingArguments(**arguments(base, folder, len(examples), batches.micro_batch, liger=liger))
    trainer = in_order(Trainer)(
        model=model,
        args=args,
        train_dataset=Dataset.from_dict(columns(examples, with_labels=True)),
        data_collator=DataCollatorForSeq2Seq(base.encoder.tokenizer),
    )
    return through(trainer, base.device)


def arguments(
    base: BaseModel, folder: str, num_rows: int, micro_batch: int, *, liger: bool
) -> dict[str, Any]:
    """Of a Trainer that takes one step over ``num_rows`` rows."""
    return {
        "output_dir": folder,
        "max_steps": 1,
        "per_device_train_batch_size": min(micro_batch, num_rows),
        "gradient_accumulation_steps": -(-num_rows // min(micro_batch, num_rows)),
        "learning_rate": 0.0,
        "weight_decay": 0.0,
        "bf16": False,  # the model's weights are in the precision that is measured already
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": base.device.type == "cpu",
        "dataloader_pin_memory": False,
        "use_liger_kernel": liger,
    }


def through(trainer: Any, device: torch.device) -> Step:
    """Steps of a Trainer: timed from the step's beginning to its end, by its own callbacks."""
    from transformers import TrainerCallback
    from transformers.trainer_callback import PrinterCallback

    class Clock(TrainerCallback):
        began, seconds = 0.0, 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            wait(device)
            self.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            wait(device)
            self.seconds = time.perf_counter() - self.began

    clock = Clock()
    trainer.remove_callback(PrinterCallback)  # stdout is for the table
    trainer.add_callback(clock)

    def step() -> tuple[float, float]:
        trainer.state.log_history = []
        with quiet():
            loss = trainer.train().training_loss
        return clock.seconds, float(loss)

    return step


def in_order(trainer_kind: type) -> type:
    """The same trainer, with rows in the order of the data set: sorted by length."""

    class InOrder(trainer_kind):  # type: ignore[misc, valid-type]
        def _get_train_sampler(self, *args: Any, **more: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    return InOrder


@contextmanager
def quiet() -> Iterator[None]:
    """What these libraries warn of is theirs, and none of it changes a step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def wait(device: torch.device) -> None:
    """Until what was started on a GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
