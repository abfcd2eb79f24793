"""Questions to sites over Flower's grid: asked, asked again where a site was lost, given up in the end.

A SuperNode that is killed loses the question that it was at, and Flower says so only as long as it takes the
node for gone. So a site that was gone and is back is asked again. One that had worked on behind a broken
connection answers the second time from what it keeps (``site_work.py``), without training again.
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
    node and its answer -> another question for it, whose answer counts instead; None: none. ``still_out``:
    nodes that are waited for as well, by the ids of questions that they were asked before.
    """

    def push(letters: Mapping[int, Letter]) -> None:
        messages = [
            Message(
                content=letter.to_records(),
                dst_node_id=node,
                message_type=kind,
                ttl=limit_s,
                group_id=str(round_num),
            )
            for node, letter in letters.items()
        ]
        for node, id_ in zip(letters, grid.push_messages(messages), strict=True):
            out[node].ids.add(id_)
            out[node].pushed = time.monotonic()

    out = {node: _Out(letter) for node, letter in letters.items()}
    push(letters)
    out |= {node: _Out(None, set(ids)) for node, ids in (still_out or {}).items()}
    began = looked = pushed = time.monotonic()
    while out:
        arrived = False
        for message in _replies(grid, {id_ for one in out.values() for id_ in one.ids}):
            arrived = True
            # To which question it is the answer, is for Flower to say: not for the site.
            id_ = message.metadata.reply_to_message_id
            node = next((n for n, one in out.items() if id_ in one.ids), None)
            if node is None:
                continue
            out[node].ids.discard(id_)
            if message.has_error():
                if message.error.code == ErrorCode.INVALID_FAB:
                    del out[node]
                    yield node, Unanswered(plain(message.error.reason or ""), is_final=True)
                continue  # below, with those that have no question out any more
            try:
                answer = Letter.from_records(message.content)
                put_off_s = _put_off_s(answer)
                refusal(answer)
            except ValueError as error:
                del out[node]
                yield node, Unanswered(f"its answer cannot be read: {error}")
                continue
            if isinstance(failure := answer.fields.get(FAILED), str):
                out[node].failure = plain(failure)
                continue  # below, with those whose program was killed
            if put_off_s:
                out[node].again_at = time.monotonic() + put_off_s
                if wait.for_later or not wait.is_enough():
                    later(node, plain(str(answer.fields[NOT_NOW])))
                continue
            more = again(node, answer)
            if more is None:
                del out[node]
                yield node, answer
            else:
                out[node].letter = more
                push({node: more})
                pushed = time.monotonic()
        now = time.monotonic()
        due = {n: one for n, one in out.items() if one.again_at is not None and one.again_at <= now}
        for node, one in due.items():
            one.again_at, arrived = None, True
            if one.letter is not None:
                push({node: one.letter})
        lost = {node for node, one in out.items() if not one.ids and one.again_at is None}
        if lost or now - looked > PRESENCE_S:
            looked = now
            lost |= _back(grid, out, now)
            for node in lost:
                one = out[node]
                if one.gone_since is not None:
                    continue  # asked again when it is back
                if one.letter is not None and one.num_asked < wait.attempts:
                    one.num_asked += 1
                    push({node: one.letter})
                    pushed = time.monotonic()
                elif not one.ids or one.letter is None:  # late, and what it was at may be lost with it
                    del out[node]
                    failure = one.failure or "its program failed or was lost"
                    yield node, Unanswered(f"{failure}, {one.num_asked} times")
        for node, reason in _given_up(out, wait, now, began):
            ids = tuple(sorted(out.pop(node).ids))
            yield node, Unanswered(reason, ids)
        # A site that puts us off again and again gives nobody else more time.
        silent = sum(one.again_at is None and now - max(pushed, one.pushed) > limit_s for one in out.values())
        if silent:
            raise NotNow(f"{silent} sites did not answer in {limit_s:.0f} s; go on with --resume")
        if out and not arrived:
            time.sleep(POLL_S)


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
    if refused := refusal(answer):
        raise ValueError(f"{who} will not do what the study asks: {refused}")
    return answer


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


def _back(grid: Grid, out: Mapping[int, _Out], now: float) -> set[int]:
    """Nodes that were gone and are connected again; notes who is gone."""
    present = set(grid.get_node_ids())
    back = set()
    for node, one in out.items():
        if node not in present:
            one.gone_since = now if one.gone_since is None else one.gone_since
        elif one.gone_since is not None:
            one.gone_since = None
            back.add(node)
    return back


def _given_up(out: Mapping[int, _Out], wait: Wait, now: float, began: float) -> list[tuple[int, str]]:
    """Nodes that are waited for no longer, each with the reason."""
    is_late = wait.deadline_s is not None and now - began > wait.deadline_s
    gone = [node for node, one in out.items() if one.gone_since is not None and now - one.gone_since > GONE_S]
    put_off = [] if wait.for_later else [node for node, one in out.items() if one.again_at is not None]
    if not (is_late or gone or put_off) or not wait.is_enough():
        return []
    if is_late:
        return [(node, f"no answer after {now - began:.0f} s") for node in out]
    return [
        *((node, f"not connected for {GONE_S:.0f} s") for node in gone),
        *((node, "it said: not now") for node in put_off if node not in gone),
    ]
