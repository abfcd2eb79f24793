"""Sites behind Flower's grid: each is asked by a message and answers by one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from fedmedlora.cohort import Evaluation
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.change import Change
from fedmedlora.exchange.sent_update import receive_update
from fedmedlora.flower.answers import evaluation, losses, site_info
from fedmedlora.flower.messages import (
    DESCRIBE,
    LAST_ROUND,
    LOSSES,
    NOT_NOW,
    OPENS_IN_S,
    READ,
    TRAIN,
    Letter,
    errand_fields,
)
from fedmedlora.flower.site_work import CHANGE, CURRENT, LACKS_BASE, UPDATE
from fedmedlora.progress import Progress
from fedmedlora.rounds import SiteReport
from fedmedlora.sites import NO_CHANGES, NO_ROUNDS, Errand, SiteInfo, Sites
from fedmedlora.terms import Terms
from fedmedlora.training import validation

log = logging.getLogger("fedmedlora")

POLL_S = 0.5
DESCRIBE_S = 3600.0  # a site may have to wait for its turn
WORK_S = 7 * 24 * 3600.0
PULLED_AT_ONCE = 4  # answers that are in memory together, each with an adapter
LETTER_BYTES = 1 << 30  # adapters that are sent to be scored in one letter


@dataclass(frozen=True)
class GridSites:
    """``sites.Sites`` over a Flower grid. ``nodes``: site -> Flower's node id."""

    grid: Grid
    terms: Terms
    progress: Progress
    nodes: Mapping[str, int]
    infos: tuple[SiteInfo, ...]

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
    ) -> Iterator[SiteReport]:
        """See ``sites.Sites``. A site that lacks what its change begins with is asked again at once."""
        costs = {info.name: info.train_cost for info in self.infos}
        whole = {CURRENT: current.to_bytes()}
        parts = {n: {CHANGE: changes[n].message} if n in changes else whole for n in names}
        errand_told = errand_fields(errand)
        fields = {
            n: {"round_num": round_num, LAST_ROUND: last_rounds.get(n, 0), **errand_told} for n in names
        }
        by_node = {self.nodes[name]: name for name in names}
        letters = {node: self._letter(fields[name], parts[name]) for node, name in by_node.items()}
        download_bytes = {name: sum(map(len, parts[name].values())) for name in names}

        def again(node: int, answer: Letter) -> Letter | None:
            name = by_node[node]
            if CHANGE not in parts[name] or not answer.flag(LACKS_BASE):
                return None
            parts[name] = whole
            download_bytes[name] += len(whole[CURRENT])
            return self._letter(fields[name], whole)

        num_answered = 0

        def later(node: int, words: str) -> None:
            advance(num_answered, len(names), f"{by_node[node]}: {words}")
            log.warning("%s: %s; it is asked again then", by_node[node], words)

        total = self.terms.training.rounds
        label = (
            f"round {round_num}/{total}: {len(names)} {'sites train' if len(names) > 1 else 'site trains'}"
        )
        with self.progress.stage(label, sum(costs[name] for name in names)) as advance:
            for node, answer in ask(self.grid, TRAIN, letters, round_num, again, later):
                name = by_node[node]
                yield _report(name, answer, current, errand, download_bytes[name])
                num_answered += 1
                advance(num_answered, len(names), f"{name} answered")

    def mean_own(self, errand: Errand) -> None:
        """See ``sites.Sites``: what sites keep stays at their own machines."""

    def losses(
        self, names: Sequence[str], adapters: Mapping[str, Adapter], errand: Errand
    ) -> dict[str, dict[str, float]]:
        """See ``sites.Sites``."""
        whose = errand_fields(errand)
        by_node = {self.nodes[name]: name for name in names}
        costs = {info.name: info.loss_cost for info in self.infos}
        others = {name: [label for label in adapters if label != name] for name in names}
        found: dict[str, dict[str, float]] = {name: {} for name in names}
        num_scored, num_scores = 0, sum(len(labels) for labels in others.values())
        cost = sum(costs[name] * len(labels) for name, labels in others.items())
        num_in_letter = _num_in_letter(adapters)
        with self.progress.stage("the sites score adapters on notes they hold out", cost) as advance:
            for start in range(0, len(adapters), num_in_letter):
                asked = {name: labels[start : start + num_in_letter] for name, labels in others.items()}
                parts = {label: adapters[label].to_bytes() for label in sorted(set().union(*asked.values()))}
                letters = {
                    self.nodes[name]: self._letter(whose, {label: parts[label] for label in labels})
                    for name, labels in asked.items()
                    if labels
                }
                for node, answer in ask(self.grid, LOSSES, letters):
                    name = by_node[node]
                    scored = losses(name, answer, set(asked[name]))
                    found[name] |= scored
                    num_scored += len(scored)
                    advance(num_scored, num_scores)
        return found

    def read(
        self, names: Sequence[str], adapter: Adapter, decoding: str, errand: Errand, label: str
    ) -> Iterator[tuple[str, Evaluation]]:
        """See ``sites.Sites``. What was predicted, and the counts of each note, stay at the site."""
        costs = {info.name: info.read_cost.get(decoding, 0.0) for info in self.infos}
        how = "" if decoding == "constrained" else ", free"
        fields = {"decoding": decoding, **errand_fields(errand)}
        letter = self._letter(fields, {CURRENT: adapter.to_bytes()})
        by_node = {self.nodes[name]: name for name in names}
        with self.progress.stage(
            f"{label}: {len(names)} sites read their test notes{how}", sum(costs[name] for name in names)
        ) as advance:
            answers = ask(self.grid, READ, dict.fromkeys(by_node, letter))
            for number, (node, answer) in enumerate(answers, start=1):
                name = by_node[node]
                yield name, Evaluation(evaluation(name, decoding, answer))
                advance(number, len(names), f"{name} answered")

    def pooled(self) -> Sites:
        """See ``sites.Sites``: these notes stay where they are."""
        raise ValueError(
            "methods: centralized trains on everybody's notes in one place, and over Flower they stay at the "
            "sites; take it out of methods"
        )

    def _letter(self, fields: Mapping[str, Any], parts: Mapping[str, bytes]) -> Letter:
        return Letter({"terms": self.terms.to_json(), **fields}, parts)


def join(grid: Grid, names: Sequence[str], terms: Terms, progress: Progress, *, wait_s: float) -> GridSites:
    """Wait until every site of ``names`` is connected and has said what it holds.

    Sites that the study does not name are left alone. Raises ``ValueError`` for a site that refuses, for
    two nodes that call themselves the same, and where a site is not there after ``wait_s`` seconds.
    """
    letter = Letter({"terms": terms.to_json()})
    nodes: dict[str, int] = {}
    infos: dict[str, SiteInfo] = {}
    known: set[int] = set()
    deadline = time.monotonic() + wait_s
    with progress.stage(f"waiting for {len(names)} sites", 0.0):
        while set(names) - set(nodes):
            new = [node for node in grid.get_node_ids() if node not in known]
            known.update(new)
            for node, answer in ask(grid, DESCRIBE, dict.fromkeys(new, letter)):
                info = site_info(answer)
                if info.name in nodes:
                    raise ValueError(f"two SuperNodes call themselves {info.name!r}; stop one of them")
                if info.name in names:
                    nodes[info.name], infos[info.name] = node, info
            missing = [name for name in names if name not in nodes]
            if missing and time.monotonic() > deadline:
                raise ValueError(
                    f"{', '.join(missing)}: not connected after {wait_s:.0f} s; start the SuperNodes, look "
                    "that each site.toml has the name that the study uses, and go on with --resume"
                )
            if missing and not new:
                time.sleep(POLL_S)
    return GridSites(grid, terms, progress, nodes, tuple(infos[name] for name in names))


def _num_in_letter(adapters: Mapping[str, Adapter]) -> int:
    """How many of ``adapters`` are sent together: whole passes of a site, so that its sums are the same."""
    largest = max((adapter.num_bytes for adapter in adapters.values()), default=1)
    return max(1, LETTER_BYTES // largest // validation.AT_ONCE) * validation.AT_ONCE


def ask(
    grid: Grid,
    kind: str,
    letters: Mapping[int, Letter],
    round_num: int = 0,
    again: Callable[[int, Letter], Letter | None] = lambda node, answer: None,
    later: Callable[[int, str], None] = lambda node, words: None,
) -> Iterator[tuple[int, Letter]]:
    """(node, answer) of every node that was asked, as they arrive. Raises ``ValueError`` for a refusal.

    ``again``: a node and its answer -> another question for it, whose answer counts instead; None: none.
    A site that answers that it is not time yet is asked the same again when it is; ``later`` is told of it,
    in the site's words.
    """
    if not letters:
        return
    limit = DESCRIBE_S if kind == DESCRIBE else WORK_S

    asked: dict[int, Letter] = {}

    def push(letters: Mapping[int, Letter]) -> dict[str, int]:
        asked.update(letters)
        messages = [
            Message(
                content=letter.to_records(),
                dst_node_id=node,
                message_type=kind,
                ttl=limit,
                group_id=str(round_num),
            )
            for node, letter in letters.items()
        ]
        return dict(zip(grid.push_messages(messages), letters, strict=True))

    sent = push(letters)
    deadline = time.monotonic() + limit
    latest = deadline  # until then, sites may put us off
    waits: dict[int, float] = {}  # node -> when it is asked again
    while sent or waits:
        arrived = 0
        due = [node for node, at in waits.items() if at <= time.monotonic()]
        if due:
            sent |= push({node: asked[node] for node in due})
            waits = {node: at for node, at in waits.items() if node not in due}
            deadline = time.monotonic() + limit
        waiting = list(sent)
        for start in range(0, len(waiting), PULLED_AT_ONCE):
            for message in list(grid.pull_messages(waiting[start : start + PULLED_AT_ONCE])):
                arrived += 1
                # To which question it is the answer, is for Flower to say: not for the site.
                node = sent.pop(message.metadata.reply_to_message_id, None)
                if node is None:
                    continue
                answer = _answer(message)
                opens_in_s = _opens_in_s(answer)
                if opens_in_s:
                    waits[node] = time.monotonic() + opens_in_s
                    if waits[node] > latest:
                        raise ValueError(f"a site puts the study off for more than {limit:.0f} s")
                    later(node, _plain(answer.text(NOT_NOW)))
                    continue
                more = again(node, answer)
                if more is None:
                    yield node, answer
                else:
                    sent |= push({node: more})
                    deadline = time.monotonic() + limit
        if sent and time.monotonic() > deadline:
            raise ValueError(f"{len(sent)} sites did not answer in {limit:.0f} s; go on with --resume")
        if not arrived and (sent or waits):
            time.sleep(POLL_S)


def _answer(message: Message) -> Letter:
    if message.has_error():
        if message.error.code == ErrorCode.INVALID_FAB:
            raise ValueError(
                f"a site does not take what the run sent it: {_plain(message.error.reason or '')}"
            )
        raise ValueError(
            f"a site's program failed (Flower's error code {message.error.code}); the log of its SuperNode "
            "says why. Go on with --resume"
        )
    answer = Letter.from_records(message.content)
    refused = answer.text("refused")
    if refused:
        raise ValueError(f"a site will not do what the study asks: {_plain(refused)}")
    return answer


def _plain(words: str) -> str:
    """A site's own words: shortened, and with nothing that could steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in words[:500])


def _opens_in_s(answer: Letter) -> float:
    """In how many seconds a site wants to be asked again; 0: it has answered."""
    if NOT_NOW not in answer.fields:
        return 0.0
    return max(1.0, answer.number(OPENS_IN_S))


def _report(name: str, answer: Letter, current: Adapter, errand: Errand, download_bytes: int) -> SiteReport:
    data = answer.part(UPDATE)
    update = receive_update(data, current, errand.exchange.up())
    if update.site != name:
        raise ValueError(f"site {name!r} sent an update in the name of {update.site!r}")
    return SiteReport(
        update=update,
        num_examples=answer.whole("num_examples"),
        train_loss=answer.number("train_loss"),
        seconds=answer.number("seconds"),
        upload_bytes=len(data),
        download_bytes=download_bytes,
        peak_memory_bytes=answer.whole("peak_memory_bytes"),
    )
