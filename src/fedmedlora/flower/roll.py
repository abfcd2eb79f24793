"""Which of Flower's nodes is which site: asked of every node once, and again of one that is new.

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
from fedmedlora.flower.asking import answered, ask
from fedmedlora.flower.messages import DESCRIBE, Letter
from fedmedlora.progress import Progress
from fedmedlora.run_folder import read_json, write_json
from fedmedlora.sites import NotNow, SiteInfo, Wait
from fedmedlora.terms import Terms

log = logging.getLogger("fedmedlora")

NOT_LONG = Wait(is_enough=lambda: True)  # a node that puts us off or is gone keeps nobody waiting
DESCRIBE_S = 3600.0  # a site may have to wait for its turn


@dataclass
class Roll:
    """The sites ``names`` behind ``grid``. Others are left alone.

    Where keys are registered, a node is the site that its key was registered for, and one that calls itself
    something else is left alone. ``remembered``: a file of what sites said, or None. What a site said first
    counts: that it has other notes now, its answers tell (``GridSites``).
    """

    grid: Grid
    names: tuple[str, ...]
    terms: Terms
    remembered: Path | None = None
    nodes: dict[str, int] = field(default_factory=dict)
    answers: dict[str, Letter] = field(default_factory=dict)
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

    def look(self) -> bool:
        """Ask nodes that are new what they are; whether there were any.

        Raises ``ValueError`` for a site that refuses, and for two nodes that call themselves the same;
        ``NotNow`` for a site whose program fails.
        """
        present = set(self.grid.get_node_ids())
        self._known &= present  # one that was away is asked again
        new = sorted(present - self._known)
        self._known |= present
        letter = Letter({"terms": self.terms.to_json()})
        registered = {one.node_id: one.name for one in self.grid.get_nodes()} if new else {}
        asked = {node: letter for node in new if registered.get(node, "") in ("", *self.names)}
        failures: list[ValueError] = []
        for node, answer in ask(self.grid, DESCRIBE, asked, limit_s=DESCRIBE_S, wait=NOT_LONG):
            try:
                self._enter(node, answered(answer, registered.get(node, "")), present, registered)
            except ValueError as error:
                self._known.discard(node)  # asked again the next time
                failures.append(error)
        if failures:
            raise failures[0]
        return bool(new)

    def _enter(self, node: int, answer: Letter, present: set[int], registered: Mapping[int, str]) -> None:
        info = site_info(answer)
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
    they are back. Raises ``ValueError`` where they are not, and what ``Roll.look`` raises.
    """
    deadline = time.monotonic() + wait_s
    roll.recall()
    with progress.stage(f"waiting for {len(roll.names)} sites", 0.0):
        while True:
            is_new = roll.look()
            missing = roll.missing()
            if not missing:
                return
            if time.monotonic() > deadline:
                if len(roll.nodes) >= num_needed and not roll.unheard():
                    return
                raise NotNow(
                    f"{', '.join(missing)}: after {wait_s:.0f} s not connected, or without an answer; start "
                    "the SuperNodes, look that each site.toml has the study's name for it, and go on with "
                    "--resume"
                )
            if not is_new:
                time.sleep(asking.POLL_S)
