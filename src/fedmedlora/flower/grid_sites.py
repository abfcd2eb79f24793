"""Sites behind Flower's grid: each is asked by a message and answers by one."""

from __future__ import annotations

import functools
import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from flwr.serverapp import Grid

from fedmedlora.cohort import Evaluation
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.change import Change
from fedmedlora.exchange.late import carried
from fedmedlora.exchange.sent_update import receive_update
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.flower.answers import basis, evaluation, losses
from fedmedlora.flower.asking import Unanswered, answered, ask, plain, why_not
from fedmedlora.flower.messages import LAST_ROUND, LOSSES, READ, TRAIN, Letter, errand_fields
from fedmedlora.flower.roll import Roll, wait_for
from fedmedlora.flower.site_work import CHANGE, CURRENT, DATA_HASH, LACKS_BASE, UPDATE, UPDATE_HASH
from fedmedlora.progress import Progress
from fedmedlora.rounds import Absent, SiteReport
from fedmedlora.sites import NO_CHANGES, NO_ROUNDS, WAIT_FOR_ALL, Errand, NotNow, SiteInfo, Sites, Wait
from fedmedlora.study_rounds import Rounds
from fedmedlora.terms import Terms
from fedmedlora.training import validation

log = logging.getLogger("fedmedlora")

MOST_LATE = 3  # rounds; then what a site was asked is taken for lost, and it is asked anew
WORK_S = 7 * 24 * 3600.0
LETTER_BYTES = 1 << 30  # adapters that are sent to be scored in one letter


OTHER_NOTES = "has other notes than the run knows"
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class _Late:
    """A site that was given up in a round of ``whose`` and may yet answer. ``base``: what the round began
    with."""

    whose: str
    ids: tuple[str, ...]
    round_num: int
    base: Adapter


@dataclass(frozen=True)
class GridSites:
    """``sites.Sites`` over a Flower grid. ``roll``: which node is which site. ``late``: who is waited for
    from an earlier round. ``rounds``: of how many of them a quorum is made."""

    grid: Grid
    terms: Terms
    progress: Progress
    roll: Roll
    infos: tuple[SiteInfo, ...]
    rounds: Rounds = field(default_factory=Rounds)
    late: dict[str, _Late] = field(default_factory=dict)

    @property
    def are_here(self) -> bool:
        """See ``sites.Sites``: what arrives has travelled."""
        return False

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
        """See ``sites.Sites``. A site that lacks what its change begins with is asked again at once."""
        costs = {info.name: info.train_cost for info in self.infos}
        self._look_again()
        for name in self.roll.missing():
            if name in names:
                yield self.roll.absent(name)
        names = [name for name in names if name in self.roll.nodes]
        whole = {CURRENT: current.to_bytes()}
        for name, one in list(self.late.items()):  # of another method, or lost
            if one.whose != errand.whose or not 0 < round_num - one.round_num <= MOST_LATE:
                del self.late[name]
        late = {name: self.late[name] for name in names if name in self.late}
        asked = [name for name in names if name not in late]
        parts = {n: {CHANGE: changes[n].message} if n in changes else whole for n in asked}
        errand_told = errand_fields(errand)
        fields = {
            n: {"round_num": round_num, LAST_ROUND: last_rounds.get(n, 0), **errand_told} for n in asked
        }
        by_node = {self.roll.nodes[name]: name for name in names}
        letters = {self.roll.nodes[name]: self._letter(fields[name], parts[name]) for name in asked}
        download_bytes = {name: sum(map(len, parts[name].values())) for name in asked}

        def again(node: int, answer: Letter) -> Letter | None:
            name = by_node[node]
            if name in late or CHANGE not in parts[name] or answer.fields.get(LACKS_BASE) is not True:
                return None
            parts[name] = whole
            download_bytes[name] += len(whole[CURRENT])
            return self._letter(fields[name], whole)

        total = self.terms.training.rounds
        label = (
            f"round {round_num}/{total}: {len(names)} {'sites train' if len(names) > 1 else 'site trains'}"
        )
        num_answered = 0

        def later(node: int, words: str) -> None:
            advance(num_answered, len(names), f"{by_node[node]}: {words}")
            log.warning("%s: %s; it is asked again then", by_node[node], words)

        began = time.monotonic()
        with self.progress.stage(label, sum(costs[name] for name in names)) as advance:
            answers = ask(
                self.grid,
                TRAIN,
                letters,
                limit_s=WORK_S,
                round_num=round_num,
                wait=wait,
                again=again,
                later=later,
                still_out={self.roll.nodes[name]: one.ids for name, one in late.items()},
            )
            for node, answer in answers:
                name, seconds = by_node[node], time.monotonic() - began
                since = late.get(name)
                self.late.pop(name, None)
                if isinstance(answer, Unanswered):
                    if answer.ids and wait.late_discount is not None:
                        self.late[name] = since or _Late(errand.whose, answer.ids, round_num, current)
                    why = answer.reason if since is None else f"{answer.reason}, late"
                    yield Absent(name, why, is_final=answer.is_final)
                    continue
                if reason := why_not(answer):
                    yield Absent(name, reason, is_final=True)
                    continue
                if answer.fields.get(LACKS_BASE) is True:  # a late one, or a site that was sent all of it
                    yield Absent(name, "it lacks the adapter that its change begins with")
                    continue
                try:
                    update = read_update(name, answer, since.base if since else current, errand)
                    if answer.text(DATA_HASH) != self._notes_of(name):  # asked again, it would be the same
                        yield Absent(name, OTHER_NOTES, is_final=True)
                        continue
                    if since is not None:
                        assert wait.late_discount is not None, "else it would have been asked again"
                        update = carried(update, since.base, current, round_num, wait.late_discount)
                    yield _report(
                        answer,
                        update,
                        download_bytes.get(name, 0),
                        since.round_num if since else None,
                        None if since else seconds,
                    )
                except ValueError as error:
                    yield Absent(name, plain(f"refused: {error}"))
                num_answered += 1
                advance(num_answered, len(names), f"{name} answered")

    def mean_own(self, errand: Errand) -> None:
        """See ``sites.Sites``: what sites keep stays at their own machines."""

    def losses(
        self, names: Sequence[str], adapters: Mapping[str, Adapter], errand: Errand
    ) -> dict[str, dict[str, float]]:
        """See ``sites.Sites``. Who is away, or goes away, scores nobody, if the others are a quorum, and two
        at least: nobody scores itself. Raises ``NotNow`` where they are not."""
        num_needed = max(self.rounds.num_needed(len(names)), min(2, len(names)))
        here = [name for name in names if name in self.roll.nodes]
        if len(here) < num_needed:
            raise self._too_few(set(names) - set(here), len(names) - num_needed, "to score adapters")
        whose = errand_fields(errand)
        costs = {info.name: info.loss_cost for info in self.infos}
        others = {name: [label for label in adapters if label != name] for name in here}
        found: dict[str, dict[str, float]] = {name: {} for name in here}
        num_scored, num_scores = 0, sum(len(labels) for labels in others.values())
        cost = sum(costs[name] * len(labels) for name, labels in others.items())
        num_in_letter = _num_in_letter(adapters)
        with self.progress.stage("the sites score adapters on notes they hold out", cost) as advance:
            for start in range(0, len(adapters), num_in_letter):
                asked = {name: others[name][start : start + num_in_letter] for name in found}
                parts = {label: adapters[label].to_bytes() for label in sorted(set().union(*asked.values()))}
                letters = {
                    name: self._letter(whose, {label: parts[label] for label in labels})
                    for name, labels in asked.items()
                    if labels
                }
                read = functools.partial(_scores, asked)
                for name, scored in self._ask_most(LOSSES, letters, len(found) - num_needed, read):
                    if isinstance(scored, Absent):
                        log.warning("%s scores nobody: %s", name, scored.reason)
                        del found[name]  # all of its scores: labels are compared over the same sites
                        continue
                    found[name] |= scored
                    num_scored += len(scored)
                    advance(num_scored, num_scores)
        return found

    def read(
        self, names: Sequence[str], adapter: Adapter, decoding: str, errand: Errand, label: str
    ) -> Iterator[tuple[str, Evaluation | Absent]]:
        """See ``sites.Sites``. What was predicted, and the counts of each note, stay at the site. Raises
        ``NotNow`` where those that read are no quorum."""
        self._look_again()
        away = [name for name in self.roll.missing() if name in names]
        num_sites = sum(bool(info.read_cost) for info in self.infos)  # those that have read it already, too
        num_spare = num_sites - self.rounds.num_needed(num_sites)
        if len(away) > num_spare:
            raise self._too_few(away, num_spare, "with test notes to read")
        for name in away:
            yield name, self.roll.absent(name)
        names = [name for name in names if name not in away]
        costs = {info.name: info.read_cost.get(decoding, 0.0) for info in self.infos}
        how = "" if decoding == "constrained" else ", free"
        fields = {"decoding": decoding, **errand_fields(errand)}
        letter = self._letter(fields, {CURRENT: adapter.to_bytes()})
        with self.progress.stage(
            f"{label}: {len(names)} sites read their test notes{how}", sum(costs[name] for name in names)
        ) as advance:
            answers = self._ask_most(
                READ,
                dict.fromkeys(names, letter),
                num_spare - len(away),
                lambda name, answer: Evaluation(evaluation(name, decoding, answer)),
            )
            for number, (name, found) in enumerate(answers, start=1):
                yield name, found
                advance(number, len(names), f"{name} answered")

    def pooled(self) -> Sites:
        """See ``sites.Sites``: these notes stay where they are."""
        raise ValueError(
            "methods: centralized trains on everybody's notes in one place, and over Flower they stay at the "
            "sites; take it out of methods"
        )

    def _too_few(self, away: Collection[str], num_spare: int, what: str) -> ValueError:
        """That the sites ``away``, of whom the run can spare ``num_spare``, are not there to do ``what``."""
        absent = [self.roll.absent(name) for name in sorted(away)]
        told = "; ".join(f"{one.site}: {one.reason}" for one in absent)
        num_final = sum(one.is_final for one in absent)
        return (ValueError if num_final > num_spare else NotNow)(f"{told}, {what}; go on with --resume")

    def _look_again(self) -> None:
        """Take in who is back on another node. Before a round that is no reason to stop it."""
        try:
            self.roll.look()
        except ValueError as error:
            log.warning("%s", error)

    def _ask_most(
        self,
        kind: str,
        letters: Mapping[str, Letter],
        num_spare: int,
        read: Callable[[str, Letter], _Found],
    ) -> Iterator[tuple[str, _Found | Absent]]:
        """(site, what ``read`` makes of its answer) of every site, as they arrive, and up to ``num_spare``
        that give none, or none that can be used. Raises what ``answered`` or ``read`` does for one more.

        ``letters``: by site. ``read``: site and answer -> what is in it; raises ``ValueError``.
        """
        by_node = {self.roll.nodes[name]: name for name in letters}
        num_out = len(letters)
        wait = Wait(is_enough=lambda: num_out <= num_spare, attempts=self.rounds.attempts)
        asked = {node: letters[name] for node, name in by_node.items()}
        for node, answer in ask(self.grid, kind, asked, limit_s=WORK_S, wait=wait):
            num_out -= 1
            name = by_node[node]
            try:
                letter = answered(answer, name)
                found = read(name, letter)
                if letter.text(DATA_HASH) != self._notes_of(name):
                    raise ValueError(f"site {name} {OTHER_NOTES}")
            except ValueError as error:
                if num_spare <= 0:
                    raise
                num_spare -= 1
                yield name, Absent(name, why_not(answer) or plain(str(error)))
            else:
                yield name, found

    def _notes_of(self, name: str) -> str:
        """The hash of the notes that the site ``name`` said it has, of which its answers are to be made."""
        return next(info.data_hash for info in self.infos if info.name == name)

    def _letter(self, fields: Mapping[str, Any], parts: Mapping[str, bytes]) -> Letter:
        return Letter({"terms": self.terms.to_json(), **fields}, parts)


def join(
    grid: Grid,
    names: Sequence[str],
    terms: Terms,
    progress: Progress,
    *,
    wait_s: float,
    rounds: Rounds | None = None,
    remembered: Path | None = None,
) -> GridSites:
    """The sites ``names``, once they are connected and have said what they hold: see ``roll.wait_for``.

    ``rounds``: how many of them are a quorum (None: all). ``remembered``: see ``roll.Roll``.
    """
    roll = Roll(grid, tuple(names), terms, remembered)
    wait_for(roll, progress, wait_s=wait_s, num_needed=(rounds or Rounds()).num_needed(len(names)))
    return GridSites(grid, terms, progress, roll, roll.infos(), rounds or Rounds())


def _scores(asked: Mapping[str, Collection[str]], name: str, answer: Letter) -> dict[str, float]:
    """The losses in the answer of ``name``, which was ``asked`` for them. Raises as ``answers.losses``."""
    return losses(name, answer, set(asked[name]))


def _num_in_letter(adapters: Mapping[str, Adapter]) -> int:
    """How many of ``adapters`` are sent together: whole passes of a site, so that its sums are the same."""
    largest = max((adapter.num_bytes for adapter in adapters.values()), default=1)
    return max(1, LETTER_BYTES // largest // validation.AT_ONCE) * validation.AT_ONCE


def read_update(name: str, answer: Letter, base: Adapter, errand: Errand) -> SiteUpdate:
    """The update in a site's answer. Raises ``ValueError`` for one that is not the site's, or none at all."""
    data = answer.part(UPDATE)
    if hashlib.sha256(data).hexdigest() != answer.text(UPDATE_HASH):
        raise ValueError("its bytes are not those that the site sent: their sha256 is another one")
    update = receive_update(data, base, errand.exchange.up())
    if update.site != name:
        raise ValueError(f"site {name!r} sent an update in the name of {update.site!r}")
    return update


def _report(
    answer: Letter,
    update: SiteUpdate,
    download_bytes: int,
    late_from: int | None,
    answer_seconds: float | None,
) -> SiteReport:
    return SiteReport(
        update=update,
        num_examples=answer.whole("num_examples"),
        train_loss=answer.number("train_loss"),
        seconds=answer.number("seconds"),
        upload_bytes=len(answer.part(UPDATE)),
        download_bytes=download_bytes,
        peak_memory_bytes=answer.whole("peak_memory_bytes"),
        late_from=late_from,
        answer_seconds=answer_seconds,
        basis=basis(update.site, answer),
    )
