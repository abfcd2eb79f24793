"""When a round is where: waited for closely, by what the programs leave on the disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from consortium.lab import Lab

CLOSELY_S = 0.002
TRAINS_S = 4.0  # after the question came: the ClientApp has loaded its model and takes steps


def asked(lab: Lab, site: str) -> Callable[[], bool]:
    """``site`` has been asked to train."""
    return lambda: "Receiving: train message" in _log(lab.kit(site) / "state" / "log" / "supernode.log")


def training(lab: Lab, site: str) -> Callable[[], bool]:
    """And is at it for a while."""
    was_asked, since = asked(lab, site), 0.0

    def is_there() -> bool:
        nonlocal since
        if not since and was_asked():
            since = time.monotonic()
        return bool(since) and time.monotonic() - since > TRAINS_S

    return is_there


def sending(lab: Lab, site: str) -> Callable[[], bool]:
    """The site has its update on the disk, and is about to send it."""
    folder = lab.kit(site) / "state" / "last-update"
    return lambda: any(_below(folder, ".json"))


def aggregating(lab: Lab, site: str) -> Callable[[], bool]:
    """The coordinator has the last update of the first round."""
    num = len(lab.network.sites)
    return lambda: sum(1 for _ in _below(lab.out / "site-updates", ".json")) >= num


def writing(lab: Lab, site: str) -> Callable[[], bool]:
    """It has begun to write the new adapter."""
    return lambda: any(p for p in _below(lab.out / "methods", "") if "round-" in p.name)


PHASES: dict[str, Callable[[Lab, str], Callable[[], bool]]] = {
    "asked": asked,
    "training": training,
    "sending": sending,
    "aggregating": aggregating,
    "writing": writing,
}


def _below(folder: Path, ending: str) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.name.endswith(ending) and path.is_file())


def _log(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
