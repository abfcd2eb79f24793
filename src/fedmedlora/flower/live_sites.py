"""The work at sites told to a ``Live``, and what the coordinator does itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fedmedlora.cohort import Evaluation
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.change import Change
from fedmedlora.flower.live import Live
from fedmedlora.progress import Advance, Progress
from fedmedlora.rounds import Absent, SiteReport
from fedmedlora.sites import NO_CHANGES, NO_ROUNDS, WAIT_FOR_ALL, Errand, SiteInfo, Sites, Wait


@dataclass(frozen=True, slots=True)
class LiveSites:
    """``sites``, of whose rounds, scores and reading ``live`` is told."""

    sites: Sites
    live: Live

    @property
    def infos(self) -> tuple[SiteInfo, ...]:
        """See ``sites.Sites``."""
        return self.sites.infos

    @property
    def are_here(self) -> bool:
        """See ``sites.Sites``."""
        return self.sites.are_here

    def train(
        self,
        names: Sequence[str],
        round_num: int,
        current: Adapter,
        errand: Errand,
        changes: Mapping[str, Change] = NO_CHANGES,
        last_rounds: Mapping[str, int] = NO_ROUNDS,
        wait: Wait = WAIT_FOR_ALL,
    ) -> Iterator[SiteReport | Absent]:
        """See ``sites.Sites``."""
        self.live.begin_round(errand.method, round_num, names)
        for answer in self.sites.train(names, round_num, current, errand, changes, last_rounds, wait):
            if isinstance(answer, Absent):
                self.live.absent(answer.site, answer.reason)
            yield answer
        self.live.stage("aggregating")

    def losses(
        self, names: Sequence[str], adapters: Mapping[str, Adapter], errand: Errand
    ) -> dict[str, dict[str, float]]:
        """See ``sites.Sites``."""
        self.live.stage("validating")
        found = self.sites.losses(names, adapters, errand)
        self.live.stage("aggregating")
        return found

    def mean_own(self, errand: Errand) -> Adapter | None:
        """See ``sites.Sites``."""
        return self.sites.mean_own(errand)

    def read(
        self, names: Sequence[str], adapter: Adapter, decoding: str, errand: Errand, label: str
    ) -> Iterator[tuple[str, Evaluation | Absent]]:
        """See ``sites.Sites``."""
        self.live.stage("reading tests", errand.method)
        for name, found in self.sites.read(names, adapter, decoding, errand, label):
            if isinstance(found, Absent):
                self.live.absent(name, found.reason)
            yield name, found

    def pooled(self) -> Sites:
        """See ``sites.Sites``."""
        return self.sites.pooled()


@dataclass(frozen=True, slots=True)
class LiveProgress:
    """``progress`` of the coordinator's own work, of which ``live`` is told."""

    progress: Progress
    live: Live

    def plan(self, cost: float) -> None:
        """See ``Progress``."""
        self.progress.plan(cost)

    @contextmanager
    def stage(self, label: str, cost: float) -> Iterator[Advance]:
        """See ``Progress``. What the coordinator does itself, it names by its label alone."""
        if ": reads " in label:  # a cohort of the coordinator's
            self.live.stage("reading tests")
        elif "validation" in label:
            self.live.stage("validating")
        self.live.doing(label)
        with self.progress.stage(label, cost) as advance:
            yield advance
        self.live.doing("")
        if "validation" in label:
            self.live.stage("aggregating")

    @contextmanager
    def run(self, label: str, number: int, total: int) -> Iterator[None]:
        """See ``Progress``."""
        with self.progress.run(label, number, total):
            yield
