"""Sites on this machine that train the BERT-type token classifier instead of an adapter.

The same rounds, the same rules and the same scores; what travels is the whole classifier.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fedmedlora.cohort import Cohort, Evaluation, evaluation_of, reading_form
from fedmedlora.corpora.note import Note
from fedmedlora.corpora.schema import Schema
from fedmedlora.encoder.classifier import Classifier, load_classifier
from fedmedlora.encoder.examples import TaggedExample, tagged_examples
from fedmedlora.encoder.predict import find_entities, find_modifiers
from fedmedlora.encoder.train import EncoderTraining, num_decisions, train_encoder_round
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.change import Change
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.in_process import EVERYBODY
from fedmedlora.local_site import LocalSite
from fedmedlora.measure import Form, Predictions, Report
from fedmedlora.prepare import Prepared
from fedmedlora.progress import Progress
from fedmedlora.rounds import SiteReport
from fedmedlora.sites import NO_CHANGES, NO_ROUNDS, WAIT_FOR_ALL, Errand, SiteInfo, Wait
from fedmedlora.study import Study
from fedmedlora.study_tables import Encoder
from fedmedlora.tasks.markup import Mention
from fedmedlora.tasks.task import askers, finders
from fedmedlora.terms import Terms
from fedmedlora.training.schedule import steps_per_round

_PIECES_PER_CHARACTER = 0.3


def uses_encoder(study: Study) -> bool:
    """Whether some method of ``study`` trains a token classifier."""
    return any(name.startswith("encoder_") for name in study.methods)


def encoder_sites(study: Study, terms: Terms, prepared: Prepared, progress: Progress) -> EncoderSites:
    """The sites of ``study``, which are here, with the token classifier of [encoder] at its start.

    Raises ``ValueError`` for an encoder that cannot be loaded.
    """
    schema = prepared.schema
    classifier = load_classifier(
        study.encoder_name(),
        num_entities=len(schema.entities),
        num_modifiers=len(schema.modifiers),
        seed=study.seed,
    )
    return EncoderSites(
        classifier,
        schema,
        reading_form(terms, schema, "constrained"),
        study.encoder,
        study.training.rounds,
        study.seed,
        study.evaluation.bootstrap,
        terms.draw_seed(),
        prepared.sites,
        progress,
        classifier.read_weights(),
    )


@dataclass(frozen=True)
class EncoderSites:
    """``sites.Sites`` over one classifier.

    ``local``: the sites, whose notes are those of the other methods.
    """

    classifier: Classifier
    schema: Schema
    form: Form
    settings: Encoder
    num_rounds: int
    seed: int
    num_resamples: int
    draw_seed: int
    local: tuple[LocalSite, ...]
    progress: Progress
    start: Adapter
    num_parts: int = 1

    @cached_property
    def infos(self) -> tuple[SiteInfo, ...]:
        """See ``sites.Sites``."""
        return tuple(self._info(site) for site in self.local)

    @property
    def are_here(self) -> bool:
        """See ``sites.Sites``."""
        return True

    def train(
        self,
        names: Sequence[str],
        round_num: int,
        current: Adapter,
        errand: Errand,
        changes: Mapping[str, Change] = NO_CHANGES,
        last_rounds: Mapping[str, int] = NO_ROUNDS,
        wait: Wait = WAIT_FOR_ALL,
    ) -> Iterator[SiteReport]:
        """See ``sites.Sites``."""
        for name in names:
            yield self._train(name, round_num, current)

    def losses(
        self, names: Sequence[str], adapters: Mapping[str, Adapter], errand: Errand
    ) -> dict[str, dict[str, float]]:
        """See ``sites.Sites``: no rule weighs token classifiers by losses."""
        raise ValueError("token classifiers are averaged by data size; no loss is asked of their sites")

    def mean_own(self, errand: Errand) -> None:
        """See ``sites.Sites``: a site keeps nothing."""

    def read(
        self, names: Sequence[str], adapter: Adapter, decoding: str, errand: Errand, label: str
    ) -> Iterator[tuple[str, Evaluation]]:
        """See ``sites.Sites``."""
        cohorts = {site.name: site.cohort for site in self.local}
        for name in names:
            cohort = cohorts[name]
            if cohort is None:
                raise ValueError(f"site {name!r} has no test notes")
            yield name, self.evaluate(cohort, adapter, decoding, label)

    def pooled(self) -> EncoderSites:
        """See ``sites.Sites``."""
        ordered = sorted(self.local, key=lambda site: site.name)
        notes = tuple(note for site in ordered for note in site.train_notes)
        everybody = LocalSite(EVERYBODY, (), train_notes=notes)
        return EncoderSites(
            self.classifier,
            self.schema,
            self.form,
            self.settings,
            self.num_rounds,
            self.seed,
            self.num_resamples,
            self.draw_seed,
            (everybody,),
            self.progress,
            self.start,
            num_parts=len(self.local),
        )

    def evaluate(self, cohort: Cohort, weights: Adapter, decoding: str, label: str) -> Evaluation:
        """The classifier with ``weights`` on ``cohort``."""
        began = time.perf_counter()
        self.classifier.write_weights(weights)
        with self.progress.stage(f"{label}: reads {cohort.name}", _reading(cohort.notes)) as advance:
            predictions = self._predict(cohort.notes, advance)
        seconds = time.perf_counter() - began
        return evaluation_of(
            cohort,
            predictions,
            self.form,
            decoding,
            seconds,
            num_resamples=self.num_resamples,
            seed=self.draw_seed,
        )

    def _predict(self, notes: Sequence[Note], report: Report) -> Predictions:
        def read(find: Any, of: Sequence[Note]) -> Any:
            return find(self.classifier, of, self.schema, batch_size=self.settings.batch_size, report=report)

        end_to_end = given_gold = None
        sure: dict[str, dict[Mention, float]] | None = None
        num_examples = 0
        if finders(self.form.tasks):
            end_to_end, found, num_examples = read(find_entities, notes)
            sure = {
                note_id: {Mention(s.type, s.start, s.end): p for s, p in spans.items()}
                for note_id, spans in found.items()
            }
        if askers(self.form.tasks):
            given_gold, num = read(find_modifiers, notes)
            num_examples += num
            if end_to_end is not None:
                end_to_end, num = read(find_modifiers, tuple(end_to_end.values()))
                num_examples += num
        return Predictions(end_to_end, given_gold, num_examples, 0, confidence=sure)

    @cached_property
    def _examples(self) -> dict[str, tuple[TaggedExample, ...]]:
        found = {}
        for site in self.local:
            of_site: list[TaggedExample] = []
            for note in site.train_notes:
                of_site += tagged_examples(
                    note,
                    self.schema,
                    self.classifier.tokenizer,
                    tasks=self.form.tasks,
                    max_tokens=self.classifier.max_tokens,
                    with_gold=True,
                )[0]
            found[site.name] = tuple(of_site)
        return found

    def _training(self, name: str) -> EncoderTraining:
        steps = steps_per_round(
            len(self._examples[name]),
            examples_per_step=self.settings.examples_per_step,
            steps_per_round=self.settings.steps_per_round * self.num_parts,
            passes_per_round=self.settings.passes_per_round,
        )
        return EncoderTraining(
            num_rounds=self.num_rounds,
            steps=steps,
            examples_per_step=self.settings.examples_per_step,
            learning_rate=self.settings.learning_rate,
            warmup_steps=self.settings.warmup_steps,
        )

    def _info(self, site: LocalSite) -> SiteInfo:
        training = self._training(site.name) if site.train_notes else None
        examples = self._examples[site.name]
        mean = sum(len(e.ids) for e in examples) / max(1, len(examples))
        steps = training.steps if training else 0
        share = self.classifier.num_parameters / 135e6  # costs are counted in the demo model's tokens
        digest = hashlib.sha256(
            f"{self.classifier.hash}/{site.name}/{self.seed}/{training}/{self.settings}".encode()
        )
        if self.classifier.device.type != "cpu":  # whose sums come out in another order
            digest.update(self.classifier.device.type.encode())
        for example in examples:
            digest.update(repr((example.ids, example.mark, example.asked)).encode() + example.tags.tobytes())
        return SiteInfo(
            name=site.name,
            record=site.record,
            annotates=site.annotates,
            data_hash="",
            train_cost=3.0 * share * steps * self.settings.examples_per_step * mean,
            read_cost={"constrained": share * _reading(site.cohort.notes)} if site.cohort else {},
            loss_cost=0.0,
            work_hash=digest.hexdigest(),
        )

    def _train(self, name: str, round_num: int, current: Adapter) -> SiteReport:
        cost = next(info.train_cost for info in self.infos if info.name == name)
        label = f"round {round_num}/{self.num_rounds}: {name} trains the token classifier"
        with self.progress.stage(label, cost) as advance:
            result = train_encoder_round(
                self.classifier,
                current,
                self._examples[name],
                self._training(name),
                site=name,
                round_num=round_num,
                seed=self.seed,
                on_step=lambda step, num_steps, loss: advance(step, num_steps, f"loss {loss:.3f}"),
            )
        update = SiteUpdate(
            site=name,
            round_num=round_num,
            adapter=result.adapter,
            started_from=current.hash(),
            num_target_tokens=sum(num_decisions(example) for example in self._examples[name]),
        )
        return SiteReport(
            update=update,
            num_examples=result.num_examples,
            train_loss=result.train_loss,
            seconds=result.seconds,
            upload_bytes=len(update.to_bytes()),
            download_bytes=len(current.to_bytes()),
            peak_memory_bytes=result.peak_memory_bytes,
        )


def _reading(notes: Sequence[Note]) -> float:
    return _PIECES_PER_CHARACTER * sum(len(note.text) for note in notes)
