"""Sites on this machine: each works in this process, one after the other, over one base model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fedmedlora.cohort import evaluate_cohort, reading_form
from fedmedlora.corpora.schema import Schema
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.local_site import LocalSite, local_training
from fedmedlora.measure import Predictions
from fedmedlora.model.load import BaseModel
from fedmedlora.progress import Progress, Silent
from fedmedlora.rounds import SiteReport
from fedmedlora.sites import SiteInfo
from fedmedlora.terms import Terms
from fedmedlora.training.site import LocalTraining, train_round, validation_loss
from fedmedlora.work_plan import reading_cost, training_cost, validation_cost

EVERYBODY = "everybody"


@dataclass(frozen=True)
class InProcess:
    """``sites.Sites`` over ``model``, PEFT's model over ``base``. Several sites never train at once.

    ``data_hashes``: sha256 over each site's files. ``num_parts``: see ``local_site.local_training``.
    """

    base: BaseModel
    model: Any
    schema: Schema
    terms: Terms
    local: tuple[LocalSite, ...]
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    progress: Progress = field(default_factory=Silent)
    num_parts: int = 1

    @cached_property
    def infos(self) -> tuple[SiteInfo, ...]:
        """See ``sites.Sites``."""
        return tuple(self._info(site) for site in self.local)

    def train(self, names: Sequence[str], round_num: int, current: Adapter) -> Iterator[SiteReport]:
        """See ``sites.Sites``."""
        for name in names:
            yield self._train(self._site(name), round_num, current)

    def losses(self, names: Sequence[str], adapters: Mapping[str, Adapter]) -> dict[str, dict[str, float]]:
        """See ``sites.Sites``."""
        found: dict[str, dict[str, float]] = {}
        for name in names:
            site = self._site(name)
            others = {label: adapter for label, adapter in adapters.items() if label != name}
            with self.progress.stage(
                f"{name} scores adapters of others", validation_cost(site.held_out) * len(others)
            ):
                found[name] = {
                    label: validation_loss(self.base, self.model, adapter, site.held_out, self._settings)
                    for label, adapter in others.items()
                }
        return found

    def read(
        self, names: Sequence[str], adapter: Adapter, decoding: str, label: str
    ) -> Iterator[tuple[str, dict[str, Any], Predictions | None]]:
        """See ``sites.Sites``."""
        for name in names:
            cohort = self._site(name).cohort
            if cohort is None:
                raise ValueError(f"site {name!r} has no test notes")
            record, predictions = evaluate_cohort(
                self.base,
                self.model,
                adapter,
                cohort,
                reading_form(self.terms, self.schema, decoding),
                num_resamples=self.terms.evaluation.bootstrap,
                seed=self.terms.seed,
                label=label,
                progress=self.progress,
            )
            yield name, record, predictions

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
            progress=self.progress,
            num_parts=len(self.local),
        )

    @cached_property
    def _settings(self) -> LocalTraining:
        return local_training(self.terms, num_parts=self.num_parts)

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
        )

    def _train(self, site: LocalSite, round_num: int, current: Adapter) -> SiteReport:
        label = f"round {round_num}/{self._settings.num_rounds}: {site.name} trains"
        with self.progress.stage(label, training_cost(site.examples, self._settings)) as advance:
            result = train_round(
                self.base,
                self.model,
                current,
                site.examples,
                self._settings,
                site=site.name,
                round_num=round_num,
                seed=self.terms.seed,
                on_step=lambda step, num_steps, loss: advance(step, num_steps, f"loss {loss:.3f}"),
            )
        update = SiteUpdate(
            site=site.name,
            round_num=round_num,
            adapter=result.adapter,
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
        )
