"""Which of Flower's nodes is which site: asked of each once, and again of one that is new or did not say.

A SuperNode with a registered key keeps its node id when it comes back; without one it gets another. What
sites said about themselves is remembered beside the run, so that a run can go on while one of them is away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from fedmedlora.flower import asking
from fedmedlora.flower.answers import site_info
from fedmedlora.flower.asking import Unanswered, answered, ask, plain, why_not
from fedmedlora.flower.messages import DESCRIBE, Letter
from fedmedlora.progress import Progress
from fedmedlora.rounds import Absent
from fedmedlora.run_folder import read_json, write_json
from fedmedlora.sites import NotNow, SiteInfo, Wait
from fedmedlora.terms import Terms

log = logging.getLogger("fedmedlora")

DESCRIBE_S = 3600.0  # a site may have to wait for its turn
# A node that puts us off, is gone or says nothing keeps nobody waiting.
NOT_LONG = Wait(is_enough=lambda: True, deadline_s=DESCRIBE_S)
AGAIN_S = 60.0  # how often a node that did not say what it is is asked again while others are waited for


@dataclass(frozen=True, slots=True)
class Failure:
    """A node that did not say what it is. ``absent``: why, and the site whose key it has ("": not known).

    ``error``: the same as an end of the run. ``asked_at``: by the monotonic clock. ``is_silent``: it did not
    answer at all, so it is asked again once it has connected anew; it connected last at ``connected_at``.
    """

    absent: Absent
    error: ValueError
    asked_at: float
    is_silent: bool
    connected_at: str


@dataclass
class Roll:
    """The sites ``names`` behind ``grid``. Others are left alone.

    Where keys are registered, a node is the site that its key was registered for, and one that calls itself
    something else is left alone. ``remembered``: a file of what sites said, or None. What a site said first
    counts: that it has other notes now, its answers tell (``GridSites``). ``failures``: the nodes that are
    connected and did not say what they are.
    """

    grid: Grid
    names: tuple[str, ...]
    terms: Terms
    remembered: Path | None = None
    nodes: dict[str, int] = field(default_factory=dict)
    answers: dict[str, Letter] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    _known: set[int] = field(default_factory=set)

    def missing(self) -> list[str]:
        """Those whose node is not known."""
        return [name for name in self.names if name not in self.nodes]

    def infos(self) -> tuple[SiteInfo, ...]:
        """What each site said about itself, now or in an earlier run. All must have, see ``unheard``."""
        return tuple(site_info(self.answers[name]) for name in self.names)

    def unheard(self) -> list[str]:
        """Those that have never said anything."""
        return [name for name in self.names if name not in self.answers]

    def absent(self, name: str) -> Absent:
        """Why ``name``, whose node is not known, is not there."""
        found = (one.absent for one in self.failures.values() if one.absent.site == name)
        return next(found, Absent(name, "not connected"))

    def look(self, again_s: float = 0.0) -> bool:
        """Ask nodes that are new what they are, and after ``again_s`` those in ``failures``; whether there
        were any.

        A site that refuses, whose program fails or whose answer cannot be used is in ``failures`` then, and
        keeps no other from being asked. Raises ``ValueError`` for two nodes that call themselves the same.
        """
        present = set(self.grid.get_node_ids())
        self._known &= present  # one that was away is asked again
        self.failures = {node: one for node, one in self.failures.items() if node in present}
        is_new = bool(present - self._known or self.failures)
        nodes = {one.node_id: one for one in self.grid.get_nodes()} if is_new else {}
        registered = {node: one.name for node, one in nodes.items()}
        connected_at = {node: one.last_activated_at for node, one in nodes.items()}
        began = time.monotonic()
        again = {
            node
            for node, one in self.failures.items()
            if (not one.is_silent and began - one.asked_at >= again_s)
            or connected_at.get(node, "") != one.connected_at
        }
        new = sorted((present - self._known) | again)
        self._known |= present
        letter = Letter({"terms": self.terms.to_json()})
        asked = {node: letter for node in new if registered.get(node, "") in ("", *self.names)}
        clashes: list[ValueError] = []
        for node, answer in ask(self.grid, DESCRIBE, asked, limit_s=DESCRIBE_S, wait=NOT_LONG):
            own = registered.get(node, "")
            found = _info(answer, own)
            if isinstance(found, SiteInfo):
                assert isinstance(answer, Letter), "else there is no description"
                self.failures.pop(node, None)
                try:
                    self._enter(node, found, answer, present, registered)
                except ValueError as error:
                    self._known.discard(node)  # asked again the next time
                    clashes.append(error)
                continue
            absent, end = found
            before = self.failures.get(node)
            if before is None or before.absent != absent:
                log.warning("%s is not there: %s", own or f"the site at node {node}", absent.reason)
            now = time.monotonic()
            is_silent = now - began >= DESCRIBE_S
            self.failures[node] = Failure(absent, end, now, is_silent, connected_at.get(node, ""))
        if clashes:
            raise clashes[0]
        return bool(new)

    def _enter(
        self, node: int, info: SiteInfo, answer: Letter, present: set[int], registered: Mapping[int, str]
    ) -> None:
        name = info.name
        own = registered.get(node, "")
        if own and own != name:
            log.warning("the site whose key is %s's calls itself %s, and is left alone", own, name)
            return
        before = self.nodes.get(name)
        if before is not None and before != node and before in present:
            raise ValueError(f"two SuperNodes call themselves {name!r}; stop one of them")
        if name in self.names:
            self.nodes[name] = node
            known = self.answers.setdefault(name, answer)
            if site_info(known).data_hash != info.data_hash:
                log.warning("%s has other notes than the run knows", name)
            self._remember()

    def recall(self) -> None:
        """Take what is remembered of sites that have not been heard."""
        found: Any = read_json(self.remembered) if self.remembered else None
        if not isinstance(found, dict) or found.get("terms") != self.terms.to_json():
            return
        for name, fields in found["sites"].items():
            if name in self.names and name not in self.answers:
                self.answers[name] = Letter(fields)

    def _remember(self) -> None:
        if self.remembered is not None:
            sites = {name: dict(answer.fields) for name, answer in sorted(self.answers.items())}
            write_json(self.remembered, {"terms": self.terms.to_json(), "sites": sites})


def wait_for(roll: Roll, progress: Progress, *, wait_s: float, num_needed: int) -> None:
    """Until every site of ``roll`` is connected and has said what it holds.

    After ``wait_s`` seconds ``num_needed`` of them are enough, if the others are remembered: they join when
    they are back. Those that are connected and do not say what they hold are not waited for. Raises
    ``NotNow`` where too few are left, ``ValueError`` where that is because they refuse, and what
    ``Roll.look`` raises.
    """
    deadline = time.monotonic() + wait_s
    roll.recall()
    with progress.stage(f"waiting for {len(roll.names)} sites", 0.0):
        while True:
            is_new = roll.look(AGAIN_S)
            missing = roll.missing()
            if not missing:
                return
            num_failed = _refuse_failures(roll, num_needed)
            is_late = time.monotonic() > deadline
            if is_late or num_failed >= len(missing):
                if len(roll.nodes) >= num_needed and not roll.unheard():
                    return
                raise NotNow(
                    f"{', '.join(missing)}: after {wait_s:.0f} s not connected, or without an answer; start "
                    "the SuperNodes, look that each site.toml has the study's name for it, and go on with "
                    "--resume"
                )
            if not is_new:
                time.sleep(asking.POLL_S)


def _refuse_failures(roll: Roll, num_needed: int) -> int:
    """How many nodes that could be missing sites did not say what they are. Raises their error where the
    study cannot begin or go on without so many: that of a site that refuses, where those are too many."""
    failures = [one for node, one in roll.failures.items() if node not in roll.nodes.values()]
    num_spare = 0 if roll.unheard() else len(roll.names) - num_needed
    final = [one for one in failures if one.absent.is_final]
    if len(final) > num_spare:
        raise final[0].error
    if len(failures) > num_spare:
        raise next(one.error for one in failures if not one.absent.is_final)
    return len(failures)


def _info(answer: Letter | Unanswered, own: str) -> SiteInfo | tuple[Absent, ValueError]:
    """What the site with the key of ``own`` ("": not known) said about itself, or why it is not there."""
    try:
        letter = answered(answer, own)
    except ValueError as error:
        return Absent(own, why_not(answer), is_final=not isinstance(error, NotNow)), error
    try:
        return site_info(letter)
    except ValueError as error:  # another version, perhaps; that can be mended there while the run waits
        reason = plain(f"its description cannot be used: {error}")
        return Absent(own, reason), NotNow(f"{f'site {own}' if own else 'a site'}: {reason}")
