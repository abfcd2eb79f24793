"""Extraction: the program's own reading of sentences against ``generate``, with the same adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.extraction.decode import decode
from fedmedlora.measure import Form, Reader
from fedmedlora.model.load import BaseModel
from fedmedlora.tasks.example import Example
from rows.adapters import adapter_of, put_into
from rows.generators import Generator, generators
from rows.models import load, title, with_lora
from rows.row import Row, Target, measured, ratios
from rows.sentences import examples, source
from rows.setting import Setting, say
from rows.timing import in_turn, timed

OURS = "ours"


@dataclass(frozen=True, slots=True)
class Extraction:
    """One measurement: ``num`` sentences, ``batch_size`` of them at a time on both sides.

    ``form``: that we answer in; ``generate`` writes markup, the sentence with tags in it.
    """

    shape: str
    precision: str
    batch_size: int
    num: int
    target: Target
    work: Path
    form: str = "markup"

    def rows(self, setting: Setting) -> Iterator[Row]:
        form = self.form
        adapter = adapter_of(self.shape, form, setting, self.work)
        # generate writes markup, so with another form it reads the adapter that was trained for markup.
        markup = adapter if form == "markup" else adapter_of(self.shape, "markup", setting, self.work)
        base = load(self.shape, self.precision, setting)
        model = put_into(with_lora(base), markup)
        num = 4 if setting.smoke else self.num * (2 if setting.full else 1)
        chosen = examples(setting, "test", "ner", num, form=form)
        texts = [e for e in examples(setting, "test", "ner", num) if form != "markup"] or chosen
        blank = [unanswered(e) for e in texts]
        say(f"{title(self.shape, self.precision, setting)}; {num} {source(setting)}")
        outputs = decode(model, base.encoder, blank)
        limits = [sum(len(base.encoder.piece(p)) for p in output) for output in outputs]
        ways = generators(model, base.encoder, blank, limits, self.batch_size)
        mine = [unanswered(e) for e in chosen]

        def ours() -> tuple[float, Any]:
            put_into(model, adapter)
            return timed(lambda: read(base, model, mine, form, self.batch_size), setting.device)

        def theirs(way: Generator) -> Callable[[], tuple[float, Any]]:
            def run() -> tuple[float, Any]:
                put_into(model, markup)
                return timed(way, setting.device)

            return run

        runs = {OURS: ours, **{name: theirs(way) for name, way in ways.items()}}
        for way in generators(model, base.encoder, blank[:1], limits[:1], self.batch_size).values():
            way()  # warms up
        ours()
        seconds, results = in_turn(runs, setting, warm=not setting.is_cpu)
        num_found = sum(len(reading.mentions) for reading in results[OURS])
        num_gold = sum(piece.startswith("<") and piece[1] != "/" for e in texts for piece in e.target)
        at_once = "one sentence at a time" if self.batch_size == 1 else f"batches of {self.batch_size}"
        for against in ways:
            plain = ["".join(output) for output in outputs]
            num_same = sum(a == b for a, b in zip(plain, results[against], strict=True))
            yield measured(
                f"extraction, {at_once}, {num} sentences" + ("" if form == "markup" else f', form "{form}"'),
                against,
                title(self.shape, self.precision, setting),
                ratios(seconds[against], seconds[OURS]),
                target=self.target,
                same=f"{num_same} of {num} texts are ours" if form == "markup" else "",
                details={
                    "seconds": seconds[against],
                    "seconds_ours": seconds[OURS],
                    "sentences_per_s": num / min(seconds[against]),
                    "sentences_per_s_ours": num / min(seconds[OURS]),
                    "entities_found": num_found,
                    "entities_gold": num_gold,
                    "output_tokens": sum(limits),
                    "prompt_tokens": len(base.encoder.prefix(blank[0].instruction)),
                    "sentences": source(setting),
                },
            )


def unanswered(example: Example) -> Example:
    """As at extraction, where nobody knows the answer."""
    return replace(example, target=())


def read(base: BaseModel, model: Any, chosen: Sequence[Example], form: str, batch_size: int) -> list[Any]:
    """What the program's own reader finds; a fresh one, for it reads nothing twice."""
    how = Form(schema=CLINICAL, tasks=("ner",), output_form=form, batch_size=batch_size)
    return Reader(base, model, how, lambda done, total: None).read(chosen)
