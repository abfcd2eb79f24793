"""The sites of a study, wherever they are: what they say about themselves and what they can be asked.

``in_process.py`` answers for sites on this machine, ``flower/grid_sites.py`` for sites behind a Flower
SuperLink. ``Participants`` is the carrier of one method's rounds over either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

from fedmedlora.cohort import Evaluation
from fedmedlora.corpora.note import Annotates
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.change import Change
from fedmedlora.exchange.exchange import Exchange
from fedmedlora.exchange.local import Local
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.measure import OtherReader
from fedmedlora.participation import holders, last_rounds
from fedmedlora.rounds import Absent, SiteReport
from fedmedlora.run_folder import UpdateCache
from fedmedlora.security.admission import Basis, Bounds, NotAdmitted, admit, admit_basis, admit_norm
from fedmedlora.security.change_norm import array_norms, change_norm, change_norm_at_most
from fedmedlora.study_rounds import MOST_CHANGE, Rounds
from fedmedlora.tasks.few_shot import Shots

NO_CHANGES: Mapping[str, Change] = MappingProxyType({})
NO_ROUNDS: Mapping[str, int] = MappingProxyType({})


class NotNow(ValueError):  # noqa: N818 - a state, not a mistake
    """A run stops here, and may get further when it goes on later."""


@dataclass(frozen=True, slots=True)
class SiteInfo:
    """What a site says about itself before the first round: counts, types and costs, never content.

    ``record``: its entry under ``cohorts`` in ``results.json``. ``annotates``: what its training notes
    annotate, each combination once. ``data_hash``: sha256 over its files, so that a run that is resumed
    notices other notes. ``train_cost``, ``read_cost`` (by decoding; of its test notes, and empty where it
    has none or keeps them to itself), ``loss_cost`` (0: no held-out notes): see ``work_plan.py``.
    ``work_hash``: the same for the same examples under the same settings, so that equal work is done once
    however many runs ask for it, and ``test_hash`` for the same test notes; "" where that is not known here.
    """

    name: str
    record: Mapping[str, Any]
    annotates: tuple[Annotates, ...]
    data_hash: str
    train_cost: float
    read_cost: Mapping[str, float]
    loss_cost: float
    work_hash: str = ""
    test_hash: str = ""


@dataclass(frozen=True, slots=True)
class Errand:
    """For which method a site works, what the method's rule asks of a site, and how adapters travel.

    ``run``: the id of the run, for sites that work for several and must keep what is theirs apart; else "".
    For sites in this process: ``shots``, solved examples to show in prompts; ``other_reader``, who
    reads instead of the model.
    """

    method: str
    local: Local = field(default_factory=Local)
    exchange: Exchange = field(default_factory=Exchange)
    shots: Shots | None = None
    other_reader: OtherReader | None = None
    run: str = ""

    @property
    def whose(self) -> str:
        """Under what a site keeps things for later rounds; never a path."""
        return f"{self.run}/{self.method}" if self.run else self.method


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a round waits for sites at other machines.

    ``is_enough``: whether it could go on with what it has. ``deadline_s``: then it waits so long in all;
    None: for all that are connected. ``attempts``: how often a site is asked that was lost.
    ``late_discount``: what a late update's size is multiplied by for each round; None: it is dropped.
    """

    is_enough: Callable[[], bool] = lambda: False
    deadline_s: float | None = None
    attempts: int = 3
    late_discount: float | None = None


WAIT_FOR_ALL = Wait()


class Sites(Protocol):
    """Sites that can be asked to work. Answers come in any order, one per site that was named."""

    @property
    def infos(self) -> tuple[SiteInfo, ...]:
        """One per site, in the study's order."""

    @property
    def are_here(self) -> bool:
        """Whether the sites work in this process: their updates come as they were trained, and not as they
        would have travelled (``as_sent.py``)."""

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
        """The sites' updates from ``current``, each as it arrives, and whoever sent none.

        Both hold what travels under ``errand.local``; the rest is the site's own affair. ``changes``: site ->
        the change that leads it there; the others are sent all of ``current``. ``last_rounds``: site -> the
        last round of this run that it took part in, of which it goes on with what it kept; the others begin.
        """

    def losses(
        self, names: Sequence[str], adapters: Mapping[str, Adapter], errand: Errand
    ) -> dict[str, dict[str, float]]:
        """Site -> label -> mean loss of that adapter on the site's held-out notes; of a site that is gone,
        nothing.

        A label that is the site's own name is left out: nobody scores itself.
        """

    def mean_own(self, errand: Errand) -> Adapter | None:
        """The mean of what the sites keep to themselves under ``errand``, or None where it is not here."""

    def read(
        self, names: Sequence[str], adapter: Adapter, decoding: str, errand: Errand, label: str
    ) -> Iterator[tuple[str, Evaluation | Absent]]:
        """(site, evaluation on its test notes, or why there is none).

        ``label``: whose adapter it is, for the progress shown. Predictions never leave a site's machine.
        """

    def pooled(self) -> Sites:
        """All notes as those of one site, "everybody". Raises ``ValueError`` where they cannot be pooled."""


@dataclass(frozen=True)
class _Begun:
    """A round as it began, against which its updates are held. ``moved_before``: how far those moved that
    were let in in the rounds before."""

    round_num: int
    current: Adapter
    moved_before: Sequence[float]

    @cached_property
    def hash(self) -> str:
        return self.current.hash()

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self.current.shapes()

    @cached_property
    def _norms(self) -> dict[str, float]:
        return array_norms(self.current)

    def at_most(self, norms: Mapping[str, float]) -> float:
        """How far from ``current`` an adapter is at most whose arrays have ``norms``."""
        return change_norm_at_most(self.shapes, self._norms, norms)


@dataclass(frozen=True)
class Participants:
    """The carrier of one method: asks ``names``, remembers what came, refuses what was not asked for.

    The first round of every rule starts from the same adapter, so the rules share its training, and a run
    that was stopped asks only for what is missing. ``takes_part``: round -> who is asked in it.
    ``begin_alike``: see ``participation.holders``. ``rounds``: without whom a round goes on, and what is let
    in. ``history``: a finished round -> its record, or None. ``norm_of``: how far one adapter is from
    another, where ``rounds`` has bounds on that. ``basis``: what a new update must stand on; None: another
    model than the base model is trained, and nobody looks. ``tell``: is given the round and each site that is
    not in it, as soon as that is known: the round may not come to its end.
    """

    sites: Sites
    names: tuple[str, ...]
    cache: UpdateCache
    errand: Errand
    takes_part: Callable[[int], tuple[str, ...]] | None = None
    begin_alike: bool = True
    rounds: Rounds = field(default_factory=Rounds)
    history: Callable[[int], Mapping[str, Any] | None] = lambda round_num: None
    norm_of: Callable[[Adapter, Adapter], float] = change_norm
    basis: Basis | None = None
    tell: Callable[[int, Absent], None] = lambda round_num, absent: None

    def changes(self, round_num: int, change: Change | None) -> dict[str, Change]:
        """Site -> ``change``, for those that can be sent one in this round."""
        if change is None:
            return {}
        names = self._asked(round_num)
        there = self._there_before(round_num)
        return dict.fromkeys(
            holders(names, round_num, there.__getitem__, begin_alike=self.begin_alike), change
        )

    def last_rounds(self, round_num: int) -> dict[str, int]:
        """Of those that take part in this round, the last round before that each took part in; 0: none."""
        return last_rounds(self._asked(round_num), round_num, self._there_before(round_num).__getitem__)

    def train(
        self, round_num: int, current: Adapter, change: Change | None = None
    ) -> Iterator[SiteReport | Absent]:
        """See ``rounds.Carrier``. Raises ``ValueError`` for an update that nobody asked for, and where too
        few are let in."""
        names, changes = self._asked(round_num), self.changes(round_num, change)
        keys = {info.name: self._key(info) for info in self.sites.infos}
        records = self._before(round_num)
        begun = _Begun(round_num, current, _numbers(records, "change_norm"))
        missing: list[str] = []
        absent: dict[str, Absent] = {}

        def known(wanted: Sequence[str]) -> Iterator[SiteReport]:
            missing.clear()
            for name in wanted:
                if name in absent:  # measured before
                    missing.append(name)
                    continue
                kept = self.cache.load(name, round_num, begun.hash, keys[name])
                if kept is not None:  # let in by another run, perhaps, under other bounds
                    # On what it stands was looked at then, and is not kept.
                    found = SiteReport(update=kept[0], basis=self.basis, **kept[1])
                    answer = self._let_in(found, begun)
                    if isinstance(answer, SiteReport):
                        yield answer
                        continue
                    absent[name] = answer  # asked again, it would send the same
                    self.tell(round_num, answer)
                missing.append(name)

        yield from known(names)
        with self.cache.claimed(begun.hash, round_num, {name: keys[name] for name in missing}):
            yield from known(tuple(missing))  # another run may have trained it while this one waited
            asked = tuple(name for name in missing if name not in absent)
            since = self.last_rounds(round_num)
            num_needed = self.rounds.num_needed(len(names))
            wait = self._wait(records, lambda: len(names) - len(missing) >= num_needed)
            is_hopeless = len(names) - len(absent) < num_needed  # by what is known of those that were kept
            arriving = (
                self.sites.train(asked, round_num, current, self.errand, changes, since, wait)
                if asked and not is_hopeless
                else ()
            )
            for answer in arriving:
                if isinstance(answer, SiteReport):
                    _refuse_unasked(answer.update, asked, missing, round_num)
                    answer = self._let_in(answer, begun)
                if isinstance(answer, SiteReport):
                    self.cache.save(answer.update, answer.numbers(), keys[answer.update.site])
                    missing.remove(answer.update.site)
                    yield answer
                    continue
                absent[answer.site] = answer
                self.tell(round_num, answer)
                if len(names) - len(absent) < num_needed:
                    break
        left = [absent.get(name, Absent(name, "no answer")) for name in missing]
        num_there = len(names) - len(left)
        if num_there < num_needed:
            told = "; ".join(f"{one.site}: {one.reason}" for one in left)
            # What asking again would not change, if it alone is too much: else the others may come back.
            num_final = sum(one.is_final for one in left)
            raise (ValueError if len(names) - num_final < num_needed else NotNow)(
                f"round {round_num}: {num_there} of {len(names)} sites sent an update that is let in, and "
                f"{num_needed} are needed ({told}); go on with --resume"
            )
        yield from left

    def _let_in(self, report: SiteReport, begun: _Begun) -> SiteReport | Absent:
        """``report``, measured where that is bounded; or why it is not let in."""
        update = report.update
        try:
            norms = admit(
                update,
                site=update.site,
                round_num=begun.round_num,
                started_from=begun.hash,
                shapes=begun.shapes,
            )
            if self.basis is not None:
                admit_basis(report.basis, self.basis)
            return self._measured(report, begun, norms)
        except NotAdmitted as reason:
            return Absent(update.site, f"refused: {reason}")

    def _measured(self, report: SiteReport, begun: _Begun, norms: Mapping[str, float]) -> SiteReport:
        """``report`` with how far it moved, where that is bounded. Raises ``NotAdmitted``: too far."""
        bounds = Bounds(self.rounds.max_change_norm, self.rounds.max_norm_ratio)
        if bounds == Bounds() or (bounds == Bounds(MOST_CHANGE) and begun.at_most(norms) <= MOST_CHANGE):
            return report
        norm = self.norm_of(begun.current, report.update.adapter)
        admit_norm(norm, begun.moved_before, bounds)
        return replace(report, change_norm=norm)

    def _wait(self, records: Mapping[int, Mapping[str, Any]], is_enough: Callable[[], bool]) -> Wait:
        seconds = _numbers(records, "answer_seconds")
        discount = self.rounds.late_discount if self.rounds.late == "keep" else None
        return Wait(is_enough, self.rounds.deadline(seconds), self.rounds.attempts, discount)

    def _before(self, round_num: int) -> dict[int, Mapping[str, Any]]:
        """The records of the finished rounds before ``round_num``, by round."""
        found = {number: self.history(number) for number in range(1, round_num)}
        return {number: record for number, record in found.items() if record is not None}

    def _there_before(self, round_num: int) -> dict[int, tuple[str, ...]]:
        """Who did the work of each round before ``round_num``, in time or late; where that is not known, who
        was asked in it."""
        records = self._before(round_num)
        there: dict[int, list[str]] = {number: [] for number in records}
        for number, record in records.items():
            for site in record["sites"]:
                there.get(site.get("late_from") or number, []).append(site["site"])
        return {
            number: tuple(there[number]) if number in there else self._asked(number)
            for number in range(1, round_num)
        }

    def missing(self, round_num: int, current: Adapter) -> tuple[str, ...]:
        """Of those that take part in this round, the ones that ``train`` would ask, for nothing is kept."""
        started_from, keys = current.hash(), {info.name: self._key(info) for info in self.sites.infos}
        return tuple(
            name
            for name in self._asked(round_num)
            if self.cache.load(name, round_num, started_from, keys[name]) is None
        )

    def _asked(self, round_num: int) -> tuple[str, ...]:
        return self.names if self.takes_part is None else self.takes_part(round_num)

    def _key(self, info: SiteInfo) -> str:
        """What else a site's update depends on, besides the round and the adapter that it started from."""
        # What a site keeps to itself is another thing in every method and in every run.
        whose = self.errand.method if self.errand.local.keeps else ""
        exchange = self.errand.exchange
        if not exchange.up().is_exact and not self.sites.are_here:  # the update is what came of it
            whose = f"{self.errand.method}/{exchange}"
        return hashlib.sha256(f"{info.work_hash}/{self.errand.local}/{whose}".encode()).hexdigest()


def _numbers(records: Mapping[int, Mapping[str, Any]], name: str) -> list[float]:
    """What the updates of ``records`` say under ``name``."""
    found = (site.get(name) for record in records.values() for site in record["sites"])
    return [number for number in found if number is not None]


def mean_of_others(losses: Mapping[str, Mapping[str, float]], label: str) -> float:
    """The mean over all sites that scored ``label``: each counts the same, whatever its size.

    Raises ``ValueError`` where nobody did.
    """
    found = [by_label[label] for _, by_label in sorted(losses.items()) if label in by_label]
    if not found:
        raise ValueError(f"no other site scored the adapter of {label!r}; that needs two sites or more")
    return sum(found) / len(found)


def _refuse_unasked(
    update: SiteUpdate,
    asked: Sequence[str],
    missing: Sequence[str],
    round_num: int,
) -> None:
    """Raise ``ValueError`` unless ``update`` is of a site that was asked, and the first one."""
    whose = f"round {round_num}: update of {update.site!r}"
    if update.site not in asked:
        raise ValueError(f"{whose} was not asked for; asked were {', '.join(asked)}")
    if update.site not in missing:
        raise ValueError(f"{whose} came twice; a site counts once")
