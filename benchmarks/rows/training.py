"""Training: one optimizer step of 32 sentences behind a shared prompt, against trainers a user would pick.

The shared-prefix step takes all 32. On a CPU, unless ``full``, the others take some of them, whole
micro-batches from the long and the short ones: their cost is so much a row, and a ratio is of seconds per
sentence. Losses are compared on the very rows that the other side took.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rows.machine import installed
from rows.models import load, title, with_lora
from rows.operations import bound
from rows.row import Row, Target, measured, ratios
from rows.sentences import examples, source
from rows.setting import Setting, say
from rows.timing import in_turn
from rows.trainers import Batches, Step, ours, own_padded, plain_trainer, trl

NUM_SENTENCES = 32
# Relative difference of losses that rounding explains.
SAME = {"float32": 1e-4, "bfloat16": 2e-2}
PADDED = "TRL's SFTTrainer, padded"
PACKED = "TRL's SFTTrainer, packed"
TRAINER = "transformers' Trainer, padded"
LIGER = " with Liger's kernels"
OWN = "padded rows, plain forward pass"
LEAN = "padded rows that skip unneeded logits"


@dataclass(frozen=True, slots=True)
class Training:
    """One measurement. ``num_groups``: micro-batches that the other side takes on a CPU; 0: all."""

    task: str
    shape: str
    precision: str
    num_groups: int = 0
    liger: bool = False

    def batches(self, setting: Setting) -> Batches:
        if setting.is_cpu:
            return Batches(4, 1024)
        return Batches(8, 2048) if "8b" in self.shape else Batches(32, 4096)

    def targets(self) -> dict[str, Target]:
        """Asked of each side; packing by a number of its own."""
        of_bound = Target(least=0.8, of_bound=True)
        packed = Target(least=4.0 if self.task == "ner" else 5.0)
        return {PADDED: of_bound, PACKED: packed, TRAINER: of_bound, OWN: of_bound}

    def rows(self, setting: Setting) -> Iterator[Row]:
        base = load(self.shape, self.precision, setting)
        model = with_lora(base).train()
        num = 8 if setting.smoke else NUM_SENTENCES
        chosen = [base.encoder.encode(e) for e in examples(setting, "train", self.task, num)]
        every = sorted(chosen, key=len, reverse=True)
        batches = self.batches(setting)
        some = (
            every if setting.full or not setting.is_cpu else part(every, batches.micro_batch, self.num_groups)
        )
        prompt, mean = len(every[0].prefix), sum(map(len, every)) / len(every)
        where = title(self.shape, self.precision, setting)
        say(f"{where}; {source(setting)}; prompt {prompt} tokens, rows {mean:.0f}")
        with tempfile.TemporaryDirectory() as folder:
            if setting.is_cpu:  # warm up on a few rows; a GPU is warmed up by the very shapes that are timed
                for step in self.others(base, model, every[-2:], batches, folder, setting).values():
                    step()
            theirs = self.others(base, model, some, batches, folder, setting)
            mine = {"shared prefix": ours(base, model, every, batches)}
            _, loss = ours(base, model, some, batches)()  # of the rows that the others take
            seconds, losses = in_turn({**mine, **theirs}, setting, warm=not setting.is_cpu)
        asked = "NER" if self.task == "ner" else "modifier"
        name = f"training, {asked} prompt ({prompt} tokens), {num} sentences"
        for against in theirs:
            per_sentence = [s / len(some) for s in seconds[against]]
            fast = [s / len(every) for s in seconds["shared prefix"]]
            off = abs(losses[against] / loss - 1)
            limit, with_logits = (bound(base.model.config, every, all_logits=a) for a in (False, True))
            told = [] if len(some) == len(every) else [f"the other side on {len(some)} sentences"]
            if scores_everything(against, setting):
                told.append(f"bound {with_logits:.2f} with the logits that only it computes")
            yield measured(
                name,
                against,
                where,
                ratios(per_sentence, fast),
                bound=limit,
                target=self.targets().get(against.removesuffix(LIGER), Target()),
                same=f"loss differs by {off:.0e}",
                found="; ".join(told),
                is_same=off <= SAME[self.precision],
                details={
                    "seconds_per_sentence": per_sentence,
                    "seconds_per_sentence_shared_prefix": fast,
                    "bound_all_logits": with_logits,
                    "loss": losses[against],
                    "loss_shared_prefix": loss,
                    "num_sentences": len(every),
                    "num_sentences_other": len(some),
                    "prompt_tokens": prompt,
                    "mean_row_tokens": mean,
                    "sentences": source(setting),
                },
            )

    def others(
        self, base: Any, model: Any, some: Sequence[Any], batches: Batches, folder: str, setting: Setting
    ) -> dict[str, Step]:
        """The other sides, by name."""
        has_trl = bool(installed("trl"))
        if self.liger:
            # Liger and TRL rewrite the model that they are given, so each trainer gets one of its own.
            bases = [load(self.shape, self.precision, setting) for _ in range(2)]
            models = [with_lora(one).train() for one in bases]
            return {
                PADDED + LIGER: trl(bases[0], models[0], some, batches, folder, liger=True),
                TRAINER + LIGER: plain_trainer(bases[1], models[1], some, batches, folder, liger=True),
            }
        found: dict[str, Step] = {}
        if has_trl:
            found[PADDED] = trl(base, model, some, batches, folder)
            found[PACKED] = trl(base, model, some, batches, folder, packing=True)
            if self.task == "ner" or setting.full or not setting.is_cpu:
                found[TRAINER] = plain_trainer(base, model, some, batches, folder)
        if setting.full or not has_trl:
            found[OWN] = own_padded(base, model, some, batches, lean=False)
        if setting.full or not has_trl or not setting.is_cpu:
            found[LEAN] = own_padded(base, model, some, batches, lean=True)
        return found


def part(ordered: Sequence[Any], size: int, num_groups: int) -> list[Any]:
    """``num_groups`` whole micro-batches of ``ordered``, evenly from its beginning to its end; 0: all."""
    groups = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    if not num_groups or num_groups >= len(groups):
        return list(ordered)
    at = [int((place + 0.5) * len(groups) / num_groups) for place in range(num_groups)]
    return [e for place in at for e in groups[place]]


def scores_everything(against: str, setting: Setting) -> bool:
    """Whether that side computes the output head at every position.

    TRL 1.16 leaves out those without a loss where it has Triton, on a GPU.
    """
    return not (against == LEAN or (against.startswith("TRL") and not setting.is_cpu))
