"""Questions to sites over Flower's grid: asked, asked again where a site was lost, given up in the end.

A SuperNode that is killed loses the question that it was at, and Flower says so only as long as it takes the
node for gone. So a site that was gone and is back, or whose SuperNode has connected anew since it was asked,
is asked again. One that had worked on behind a broken connection answers the second time from what it keeps
(``site_work.py``), without training again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from fedmedlora.flower.messages import FAILED, NOT_NOW, OPENS_IN_S, Letter
from fedmedlora.printable import printable
from fedmedlora.sites import NotNow, Wait

POLL_S = 0.5
PRESENCE_S = 3.0  # how often Flower is asked who is connected
GONE_S = 60.0  # a round that could go on without a site waits so long for its connection
LEAST_PUT_OFF_S = 60.0
MOST_PUT_OFF_S = 2 * 24 * 3600.0
PULLED_AT_ONCE = 4  # answers that are in memory together, each with an adapter


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A site that gave no answer. ``reason``: why, in words. ``ids``: questions that it may yet answer.
    ``is_final``: whether asking again would end the same."""

    reason: str
    ids: tuple[str, ...] = ()
    is_final: bool = False


@dataclass(slots=True)
class _Out:
    """What is out at one site. ``letter``: what it is asked again; None where that is not known any more."""

    letter: Letter | None
    ids: set[str] = field(default_factory=set)
    num_asked: int = 1
    pushed: float = field(default_factory=time.monotonic)  # when it was asked last
    gone_since: float | None = None
    connected_at: str = ""  # when its SuperNode connected last, in Flower's words; "": not known
    failure: str = ""  # why its program failed, as the site says
    again_at: float | None = None  # when a site that said "not now" is to be asked


def ask(
    grid: Grid,
    kind: str,
    letters: Mapping[int, Letter],
    *,
    limit_s: float,
    round_num: int = 0,
    wait: Wait,
    again: Callable[[int, Letter], Letter | None] = lambda node, answer: None,
    later: Callable[[int, str], None] = lambda node, words: None,
    still_out: Mapping[int, tuple[str, ...]] | None = None,
) -> Iterator[tuple[int, Letter | Unanswered]]:
    """(node, answer) of every node that was asked, as they arrive, and of those that gave none.

    ``limit_s``: after so long it is an error (``NotNow``) that somebody has not answered. ``again``: a
    node and its answer -> another question for it, whose answer counts instead; None: none. ``later``: is
    told of a site that puts the question off. ``still_out``: nodes that are waited for as well, by the ids
    of questions that they were asked before.
    """
    asking = _Asking(grid, kind, limit_s, round_num, wait, again, later)
    asking.out |= {node: _Out(letter) for node, letter in letters.items()}
    asking.push(letters)
    asking.out |= {node: _Out(None, set(ids)) for node, ids in (still_out or {}).items()}
    yield from asking.answers()


@dataclass
class _Asking:
    """Questions of one kind that are out, until each is answered or given up. Fields: as of ``ask``.

    ``pushed``: since when whoever says nothing is silent. ``looked``: when Flower was asked last who is
    connected.
    """

    grid: Grid
    kind: str
    limit_s: float
    round_num: int
    wait: Wait
    again: Callable[[int, Letter], Letter | None]
    later: Callable[[int, str], None]
    out: dict[int, _Out] = field(default_factory=dict)
    pushed: float = 0.0
    looked: float = 0.0

    def push(self, letters: Mapping[int, Letter]) -> None:
        """Ask."""
        messages = [
            Message(
                content=letter.to_records(),
                dst_node_id=node,
                message_type=self.kind,
                ttl=self.limit_s,
                group_id=str(self.round_num),
            )
            for node, letter in letters.items()
        ]
        # Before they leave: a SuperNode that connects anew from now on may have lost its question.
        connected = _connected(self.grid)
        for node, id_ in zip(letters, self.grid.push_messages(messages), strict=True):
            self.out[node].connected_at = connected.get(node, "")
            self.out[node].ids.add(id_)
            self.out[node].pushed = time.monotonic()

    def answers(self) -> Iterator[tuple[int, Letter | Unanswered]]:
        """See ``ask``."""
        began = self.pushed = self.looked = time.monotonic()
        while self.out:
            is_quiet = True
            for message in _replies(self.grid, {id_ for one in self.out.values() for id_ in one.ids}):
                is_quiet = False
                if (found := self._taken(message)) is not None:
                    yield found
            now = time.monotonic()
            is_quiet = not self._ask_those_put_off(now) and is_quiet
            yield from self._ask_those_lost(now)
            for node, reason in _given_up(self.out, self.wait, now, began):
                yield node, Unanswered(reason, tuple(sorted(self.out.pop(node).ids)))
            self._refuse_silence(now)
            if self.out and is_quiet:
                time.sleep(POLL_S)

    def _taken(self, message: Message) -> tuple[int, Letter | Unanswered] | None:
        """The answer in ``message``; None where it is none that ends the matter."""
        # To which question it is the answer, is for Flower to say: not for the site.
        id_ = message.metadata.reply_to_message_id
        node = next((n for n, one in self.out.items() if id_ in one.ids), None)
        if node is None:
            return None
        one = self.out[node]
        one.ids.discard(id_)
        if message.has_error():
            if message.error.code != ErrorCode.INVALID_FAB:
                return None  # its program was killed: it has no question out any more
            del self.out[node]
            return node, Unanswered(plain(message.error.reason or ""), is_final=True)
        try:
            answer = Letter.from_records(message.content)
            put_off_s = _put_off_s(answer)
            refusal(answer)
        except ValueError as error:
            del self.out[node]
            return node, Unanswered(f"its answer cannot be read: {error}")
        if isinstance(failure := answer.fields.get(FAILED), str):
            one.failure = plain(failure)  # and asked again as if it had been killed
        elif put_off_s:
            one.again_at = time.monotonic() + put_off_s
            if not self.wait.is_enough():
                self.later(node, plain(str(answer.fields[NOT_NOW])))
        elif (more := self.again(node, answer)) is not None:
            one.letter = more
            self.push({node: more})
            self.pushed = time.monotonic()
        else:
            del self.out[node]
            return node, answer
        return None

    def _ask_those_put_off(self, now: float) -> bool:
        """Ask the sites that said "not now" whose time has come; whether there were any."""
        due = [n for n, one in self.out.items() if one.again_at is not None and one.again_at <= now]
        for node in due:
            one = self.out[node]
            one.again_at = None
            if one.letter is not None:
                self.push({node: one.letter})
        return bool(due)

    def _ask_those_lost(self, now: float) -> Iterator[tuple[int, Unanswered]]:
        """Ask once more whose program ended, or who is back; give up whom that does not help."""
        lost = {node for node, one in self.out.items() if not one.ids and one.again_at is None}
        if not lost and now - self.looked <= PRESENCE_S:
            return
        self.looked = now
        for node in lost | _back(self.grid, self.out, now):
            one = self.out[node]
            if one.gone_since is not None or one.again_at is not None:
                continue  # asked again when it is back, and when its time has come: it lost no question
            if one.letter is not None and one.num_asked < self.wait.attempts:
                one.num_asked += 1
                self.push({node: one.letter})
                self.pushed = time.monotonic()
            elif not one.ids or one.letter is None:  # late, and what it was at may be lost with it
                del self.out[node]
                failure = one.failure or "its program failed or was lost"
                yield node, Unanswered(f"{failure}, {one.num_asked} times")

    def _refuse_silence(self, now: float) -> None:
        """Raise ``NotNow`` where somebody has said nothing for ``limit_s``.

        A site that puts us off again and again gives nobody else more time.
        """
        outs = self.out.values()
        silent = sum(o.again_at is None and now - max(self.pushed, o.pushed) > self.limit_s for o in outs)
        if silent:
            raise NotNow(f"{silent} sites did not answer in {self.limit_s:.0f} s; go on with --resume")


def answered(answer: Letter | Unanswered, site: str = "") -> Letter:
    """``answer``, if it is one. Raises ``ValueError`` for a refusal, and ``NotNow`` for a site that is
    lost. ``site``: its name, where it is known."""
    who = f"site {site}" if site else "a site"
    if isinstance(answer, Unanswered):
        if answer.is_final:
            raise ValueError(f"{who} does not take what the run sent it: {answer.reason}")
        raise NotNow(
            f"{who} did not answer: {answer.reason}; the log of its SuperNode may say why. Go on with "
            "--resume"
        )
    if refused := why_not(answer):
        raise ValueError(f"{who} {refused}")
    return answer


def why_not(answer: Letter | Unanswered) -> str:
    """Why a site gave no answer to what it was asked, or "" where it gave one."""
    if isinstance(answer, Unanswered):
        return answer.reason or "it did not answer"
    refused = refusal(answer)
    return f"will not do what the study asks: {refused}" if refused else ""


def refusal(answer: Letter) -> str:
    """Why a site will not, in its own words, or "": shortened, and with nothing that could steer a
    terminal."""
    return plain(answer.text("refused"))


def plain(words: str) -> str:
    """Words that came over the network: shortened, and with nothing that could steer a terminal."""
    return printable(words[:500])


def _put_off_s(answer: Letter) -> float:
    """For how long a site says "not now"; 0: it does not. A site may put a run off for two days at most, and
    is then asked again."""
    if not isinstance(answer.fields.get(NOT_NOW), str):
        return 0.0
    return max(LEAST_PUT_OFF_S, min(answer.number(OPENS_IN_S), MOST_PUT_OFF_S))


def _replies(grid: Grid, ids: set[str]) -> Iterator[Message]:
    waiting = sorted(ids)
    for start in range(0, len(waiting), PULLED_AT_ONCE):
        yield from list(grid.pull_messages(waiting[start : start + PULLED_AT_ONCE]))


def _connected(grid: Grid) -> dict[int, str]:
    """Node -> when it connected last, of those that are connected; Flower looks at their heartbeats."""
    return {one.node_id: one.last_activated_at for one in grid.get_nodes()}


def _back(grid: Grid, out: Mapping[int, _Out], now: float) -> set[int]:
    """Nodes that were gone and are connected again, seen or unseen; notes who is gone."""
    connected = _connected(grid)
    back = set()
    for node, one in out.items():
        if node not in connected:
            one.gone_since = now if one.gone_since is None else one.gone_since
            continue
        if one.gone_since is not None or one.connected_at not in ("", connected[node]):
            one.gone_since = None
            back.add(node)
        one.connected_at = connected[node]
    return back


def _given_up(out: Mapping[int, _Out], wait: Wait, now: float, began: float) -> list[tuple[int, str]]:
    """Nodes that are waited for no longer, each with the reason."""
    is_late = wait.deadline_s is not None and now - began > wait.deadline_s
    gone = [node for node, one in out.items() if one.gone_since is not None and now - one.gone_since > GONE_S]
    put_off = [node for node, one in out.items() if one.again_at is not None]
    if not (is_late or gone or put_off) or not wait.is_enough():
        return []
    if is_late:
        return [(node, f"no answer after {now - began:.0f} s") for node in out]
    return [
        *((node, f"not connected for {GONE_S:.0f} s") for node in gone),
        *((node, "it said: not now") for node in put_off if node not in gone),
    ]
