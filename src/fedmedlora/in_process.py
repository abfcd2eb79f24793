"""Sites on this machine: each works in this process, one after the other, over one base model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from fedmedlora.basis import basis_here
from fedmedlora.cohort import Evaluation, evaluate_cohort, reading_form
from fedmedlora.corpora.schema import Schema
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.change import Change
from fedmedlora.exchange.local import put, rest, take
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.local_site import LocalSite, local_training
from fedmedlora.model.load import BaseModel
from fedmedlora.own_parts import OwnParts
from fedmedlora.progress import Progress, Silent
from fedmedlora.rounds import SiteReport
from fedmedlora.security.admission import Basis
from fedmedlora.sites import NO_CHANGES, NO_ROUNDS, WAIT_FOR_ALL, Errand, SiteInfo, Wait
from fedmedlora.study_tables import Model
from fedmedlora.terms import Terms
from fedmedlora.training.data_parallel import Workers
from fedmedlora.training.site import LocalTraining, train_round
from fedmedlora.training.validation import validation_losses
from fedmedlora.work_plan import reading_cost, training_cost, validation_cost

EVERYBODY = "everybody"


@dataclass(frozen=True)
class InProcess:
    """``sites.Sites`` over ``model``, PEFT's model over ``base``. Several sites never train at once.

    ``start``: the untrained adapter. ``own``: where sites keep what they do not send. ``data_hashes``:
    sha256 over each site's files. ``num_parts`` and ``here``: see ``local_site.local_training``.
    ``workers``: train instead of this process.
    """

    base: BaseModel
    model: Any
    schema: Schema
    terms: Terms
    local: tuple[LocalSite, ...]
    start: Adapter
    own: OwnParts
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    progress: Progress = field(default_factory=Silent)
    num_parts: int = 1
    here: Model = field(default_factory=Model)
    workers: Workers | None = None

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
            yield self._train(self._site(name), round_num, current, errand, last_rounds.get(name, 0))

    def mean_own(self, errand: Errand) -> Adapter | None:
        """See ``sites.Sites``."""
        found = [self.own.latest(errand.whose, site.name) for site in self.local]
        own = [one for one in found if one is not None]
        if not own:
            return None
        return Adapter(
            {
                name: np.mean([one.arrays[name].astype(np.float64) for one in own], axis=0).astype(np.float32)
                for name in own[0].arrays
            }
        )

    def losses(
        self, names: Sequence[str], adapters: Mapping[str, Adapter], errand: Errand
    ) -> dict[str, dict[str, float]]:
        """See ``sites.Sites``."""
        found: dict[str, dict[str, float]] = {}
        for name in names:
            site = self._site(name)
            others = {
                label: self._whole(site, adapter, errand)
                for label, adapter in adapters.items()
                if label != name
            }
            with self.progress.stage(
                f"{name} scores adapters of others", validation_cost(site.held_out) * len(others)
            ):
                losses = validation_losses(
                    self.base, self.model, list(others.values()), site.held_out, self._settings
                )
                found[name] = dict(zip(others, losses, strict=True))
        return found

    def read(
        self, names: Sequence[str], adapter: Adapter, decoding: str, errand: Errand, label: str
    ) -> Iterator[tuple[str, Evaluation]]:
        """See ``sites.Sites``."""
        for name in names:
            cohort = self._site(name).cohort
            if cohort is None:
                raise ValueError(f"site {name!r} has no test notes")
            yield (
                name,
                evaluate_cohort(
                    self.base,
                    self.model,
                    self._whole(self._site(name), adapter, errand),
                    cohort,
                    replace(reading_form(self.terms, self.schema, decoding), shots=errand.shots),
                    num_resamples=self.terms.evaluation.bootstrap,
                    seed=self.terms.draw_seed(),
                    label=label,
                    progress=self.progress,
                    other=errand.other_reader,
                ),
            )

    def pooled(self) -> InProcess:
        """See ``sites.Sites``. "everybody" may also be the name of a site: it is another one."""
        # By name: the order of the sites in the study file plays no role.
        ordered = sorted(self.local, key=lambda site: site.name)
        everybody = LocalSite(
            EVERYBODY,
            tuple(example for site in ordered for example in site.examples),
            annotates=tuple(dict.fromkeys(a for site in self.local for a in site.annotates)),
        )
        return InProcess(
            self.base,
            self.model,
            self.schema,
            self.terms,
            (everybody,),
            self.start,
            self.own,
            progress=self.progress,
            num_parts=len(self.local),
            here=self.here,
            workers=self.workers,
        )

    @cached_property
    def basis(self) -> Basis:
        """What the sites work with, out of the files on this machine."""
        return basis_here(self.base, self.terms.tasks)

    @cached_property
    def _settings(self) -> LocalTraining:
        found = local_training(self.terms, num_parts=self.num_parts, here=self.here)
        return found if self.workers is None else replace(found, num_devices=self.workers.num)

    def _site(self, name: str) -> LocalSite:
        return next(site for site in self.local if site.name == name)

    def _info(self, site: LocalSite) -> SiteInfo:
        read_cost = {}
        if site.cohort is not None:
            for decoding in ("constrained", "free"):
                form = reading_form(self.terms, self.schema, decoding)
                read_cost[decoding] = reading_cost(site.cohort.notes, form)
        return SiteInfo(
            name=site.name,
            record=site.record,
            annotates=site.annotates,
            data_hash=self.data_hashes.get(site.name, ""),
            train_cost=training_cost(site.examples, self._settings),
            read_cost=read_cost,
            loss_cost=validation_cost(site.held_out),
            work_hash=self._work_hash(site),
            test_hash="" if site.cohort is None else site.cohort.notes_hash(),
        )

    def _work_hash(self, site: LocalSite) -> str:
        digest = hashlib.sha256(f"{site.name}/{self.base.hash}/{self.base.precision}".encode())
        digest.update(f"{self.base.quantization}/{self.base.device.type}/{self.terms.seed}".encode())
        digest.update(f"{self._settings}/{self.terms.adapter}".encode())
        for example in site.examples:
            digest.update(example.seen())
        return digest.hexdigest()

    def _whole(
        self, site: LocalSite, arrived: Adapter, errand: Errand, last_round: int | None = None
    ) -> Adapter:
        """What travels, and with it what the site kept of ``last_round``; None: of the last of all."""
        if errand.local.sends in ("both", "model"):
            return arrived
        own = None
        if errand.local.keeps and last_round is None:
            own = self.own.latest(errand.whose, site.name)
        elif errand.local.keeps and last_round is not None:
            own = self.own.load(errand.whose, site.name, last_round)
        return put(self.start if own is None else put(self.start, own), arrived)

    def _train(
        self, site: LocalSite, round_num: int, current: Adapter, errand: Errand, last_round: int
    ) -> SiteReport:
        label = f"round {round_num}/{self._settings.num_rounds}: {site.name} trains"
        with self.progress.stage(label, training_cost(site.examples, self._settings)) as advance:
            train = (
                partial(train_round, self.base, self.model)
                if self.workers is None
                else self.workers.train_round
            )
            result = train(
                self._whole(site, current, errand, last_round),
                site.examples,
                self._settings,
                local=errand.local,
                site=site.name,
                round_num=round_num,
                seed=self.terms.seed,
                on_step=lambda step, num_steps, loss: advance(step, num_steps, f"loss {loss:.3f}"),
            )
        sends = errand.local.sends
        if errand.local.keeps:
            self.own.save(errand.whose, site.name, round_num, rest(result.adapter, sends))
        update = SiteUpdate(
            site=site.name,
            round_num=round_num,
            adapter=take(result.adapter, sends),
            started_from=current.hash(),
            num_target_tokens=site.num_target_tokens(self._settings.loss),
        )
        return SiteReport(
            update=update,
            num_examples=result.num_examples,
            train_loss=result.train_loss,
            seconds=result.seconds,
            upload_bytes=len(update.to_bytes()),
            download_bytes=len(current.to_bytes()),
            peak_memory_bytes=result.peak_memory_bytes,
            basis=self.basis,
        )
