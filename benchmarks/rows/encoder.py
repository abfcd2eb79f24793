"""Extraction against an encoder that tags each word piece: what a site could have run instead.

BERT-base's shape (110M) with random weights, for time depends on shapes alone, under the token classifier of
``encoder/``; MiniLM's word pieces, which are BERT's. Both sides read the same sentences, from text to spans.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.encoder.classifier import Classifier, TokenClassifier, minilm_folder
from fedmedlora.encoder.predict import find_entities
from fedmedlora.model.load import PRECISIONS
from rows.adapters import adapter_of, put_into
from rows.extraction import read, unanswered
from rows.models import load, title, with_lora
from rows.row import Row, Target, beside_encoder, measured, ratios
from rows.sentences import as_notes, examples, num_segments, source
from rows.setting import Setting, say
from rows.timing import in_turn, timed

AGAINST = "an encoder of BERT-base's size that tags"


@dataclass(frozen=True, slots=True)
class AgainstEncoder:
    """One measurement: ``num`` sentences in batches of ``batch_size``, and one of middle length alone."""

    shape: str
    precision: str
    batch_size: int
    num: int
    work: Path
    form: str = "markup"

    def rows(self, setting: Setting) -> Iterator[Row]:
        form = self.form
        adapter = adapter_of(self.shape, form, setting, self.work)
        base = load(self.shape, self.precision, setting)
        model = put_into(with_lora(base), adapter)
        classifier = random_encoder(setting, self.precision)
        num = 4 if setting.smoke else self.num
        chosen = [unanswered(e) for e in examples(setting, "test", "ner", num, form=form)]
        notes = as_notes(setting, chosen)
        where = title(self.shape, self.precision, setting)
        say(f"{where}; {num} {source(setting)}; encoder of {classifier.num_parameters / 1e6:.0f}M parameters")
        middle, many = len(chosen) // 2, f"extraction, {num} sentences in batches of {self.batch_size}"
        for what, some, texts, target in (
            (many, chosen, notes, beside_encoder(form)),
            ("the first result: one sentence alone", [chosen[middle]], [notes[middle]], Target()),
        ):

            def ours(some: Any = some) -> tuple[float, Any]:
                return timed(lambda: read(base, model, some, form, self.batch_size), setting.device)

            def theirs(texts: Any = texts) -> tuple[float, Any]:
                how = {"batch_size": self.batch_size, "report": lambda done, total: None}
                return timed(lambda: find_entities(classifier, texts, CLINICAL, **how), setting.device)

            seconds, _ = in_turn({"ours": ours, "encoder": theirs}, setting)
            fast = {side: statistics.median(times) for side, times in seconds.items()}
            yield measured(
                what + ("" if form == "markup" else f', form "{form}"'),
                AGAINST,
                where,
                ratios(seconds["ours"], seconds["encoder"]),
                target=target,
                found=f"{len(some) / fast['ours']:.1f} against {len(some) / fast['encoder']:.1f} sentences/s"
                if len(some) > 1
                else f"{1000 * fast['ours']:.0f} against {1000 * fast['encoder']:.0f} ms",
                details={
                    "seconds_ours": seconds["ours"],
                    "seconds_encoder": seconds["encoder"],
                    "num_sentences": len(some),
                    "num_sentences_encoder": num_segments(texts),
                    "encoder_parameters": classifier.num_parameters,
                    "model_parameters": base.num_parameters,
                    "sentences": source(setting),
                },
            )


def random_encoder(setting: Setting, precision: str) -> Classifier:
    """A token classifier over a random BERT of bert-base's shape, its configuration's default."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(str(minilm_folder()))
    config = BertConfig(vocab_size=len(tokenizer))
    if setting.smoke:
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
        )
    torch.manual_seed(0)
    device = torch.device(setting.device)
    with device:
        encoder = BertModel(config, add_pooling_layer=False)
    model = TokenClassifier(encoder, len(CLINICAL.entities), len(CLINICAL.modifiers), seed=0)
    model = model.to(device, PRECISIONS[precision]).eval()
    return Classifier("bert-base", model, tokenizer, device, config.max_position_embeddings, "")
