"""A study carried to its end over a SuperLink that is kept running, whatever dies on the way.

Flower marks a run as failed when its SuperLink or its ServerApp is killed, and never takes it up again. So a
new Flower run is started, which goes on after the last round that was finished (``run_folder.py``), with the
same adapter in the end. Nobody has to think about it.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmedlora import __version__
from fedmedlora.flower.coordinator import CONNECTION, coordinator_environment
from fedmedlora.flower.coordinator_file import CoordinatorFile
from fedmedlora.flower.may_pass import in_words, may_pass
from fedmedlora.flower.registry import Unreachable, list_nodes, usable_keys
from fedmedlora.flower.submit import Interrupted, Target, run_at
from fedmedlora.run_folder import differing_settings, read_json
from fedmedlora.settings import nearest
from fedmedlora.study import Study
from fedmedlora.study_public import public_settings

Tell = Callable[[str], None]
START_S = 60.0
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a study that gets no further is begun again. ``waits_s``: before each further start, and the
    last of them from then on. ``give_up_s``: since it got further for the last time."""

    waits_s: tuple[float, ...] = (2.0, 5.0, 15.0, 60.0)
    give_up_s: float = 24 * 3600.0


def carry_through(
    run: Callable[[], dict[str, Any]],
    how_far: Callable[[], int],
    tell: Tell,
    stopping: threading.Event,
    *,
    patience: Patience | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any] | None:
    """What ``run`` returns, called again as long as it is interrupted, or fails with what ``may_pass``, such
    as a full disk; None where ``stopping`` was set.

    ``how_far``: counts up as the study gets further. Raises ``ValueError`` for what calling again would not
    change, and where nothing got further for too long; and other errors of the system (``OSError``).
    """
    patience = patience or Patience()
    reached, since, num_starts = how_far(), clock(), 0
    while not stopping.is_set():
        try:
            return run()
        except (Interrupted, OSError) as error:
            if not (isinstance(error, Interrupted) or may_pass(error)):
                raise
            if stopping.is_set():
                break
            now = how_far()
            if now != reached:  # fewer, where damaged rounds were put aside: they are computed again
                reached, since, num_starts = now, clock(), 0
            if clock() - since > patience.give_up_s:
                raise ValueError(
                    f"{in_words(error)}\n"
                    f"Nothing got further for {patience.give_up_s / 3600:.3g} hours; when that is "
                    "mended, start it again: it goes on where it was"
                ) from error
            wait_s = patience.waits_s[min(num_starts, len(patience.waits_s) - 1)]
            num_starts += 1
            tell(f"interrupted: {in_words(error)}; it goes on in {wait_s:.0f} s")
            stopping.wait(wait_s)
    return None


def run_beside(
    file: CoordinatorFile,
    study_file: Path,
    study: Study,
    out: Path,
    tell: Tell,
    finish: Callable[[dict[str, Any]], None],
    *,
    wait_s: float,
    command: tuple[str, ...],
) -> Callable[[threading.Event], None]:
    """Work for ``coordinator.start_coordinator``: the study in ``out``, begun or gone on with, to its end.

    ``study``: what is in ``study_file``. ``finish`` is given its results, and writes ``results.json``.
    ``wait_s``: how long the study waits for its sites before it begins anew to do so. Raises ``ValueError``
    for a folder with another study, and for a study that is to begin with sites that have no key here.
    """
    target = Target(CONNECTION, coordinator_environment(file, os.environ))
    with _worded_for_here():
        refuse_other_study(study, out)
        if not (out / "run.json").exists():  # later, one may have left for good
            keys, _ = usable_keys(file.path(file.sites))
            refuse_strangers(study, keys, f"{study_file.name} and {file.sites}/")

    def told(line: str) -> None:
        tell(as_here(line))

    def work(stopping: threading.Event) -> None:
        def run() -> dict[str, Any]:
            _until_up(file, stopping)
            return run_at(study_file, out, target, True, wait_s, command, told, stopping)

        with _worded_for_here():
            if is_whole(out):
                tell(f"the study was finished before: {out / 'results.json'}")
                return
            carry_through(finished(run, finish), lambda: files_of(out), told, stopping)

    return work


def finished(
    run: Callable[[], dict[str, Any]], finish: Callable[[dict[str, Any]], None]
) -> Callable[[], dict[str, Any]]:
    """``run``, whose results are given to ``finish``. Called again after ``finish`` failed (a full disk), it
    does the rest alone: a study that is done is not run again."""
    found: list[dict[str, Any]] = []

    def both() -> dict[str, Any]:
        if not found:
            found.append(run())
        finish(found[0])
        return found[0]

    return both


def as_here(words: str) -> str:
    """``words`` that were written for ``fedmedlora run``, without its advice: here it goes on by itself, and
    after an error with the same command."""
    return re.sub(r"(,? and|;)? go on with --resume", "", words)


@contextmanager
def _worded_for_here() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(as_here(str(error))) from error


def refuse_strangers(study: Study, keys: Collection[str], where: str) -> None:
    """Raise ``ValueError`` for a site of ``study`` that has no key among ``keys``: it would be waited for."""
    strangers = [site.name for site in study.sites if site.name not in keys]
    if strangers:
        there = ", ".join(sorted(keys)) or "nobody"
        raise ValueError(
            f"{where}: there is no key of {', '.join(strangers)}, only of {there}"
            f"{nearest(strangers[0], sorted(keys))}"
        )


def refuse_other_study(study: Study, out: Path) -> None:
    """Raise ``ValueError`` where the run in ``out`` is one of another study, or of other defaults."""
    known = read_json(out / "run.json")
    if known is not None and known.get("study_hash") != study.study_hash():
        names = differing_settings(known.get("settings") or {}, public_settings(study))
        by = known.get("fedmedlora", __version__)
        raise ValueError(
            f"{out}: holds a run of another study (it differs in {', '.join(names) or 'settings'}"
            f"{'' if by == __version__ else f', and was made by fedmedlora {by}'}); name another folder with "
            "--out"
        )


def _until_up(file: CoordinatorFile, stopping: threading.Event) -> None:
    """Wait for a SuperLink that is being started, for a while."""
    deadline = time.monotonic() + START_S
    while not stopping.is_set() and time.monotonic() < deadline:
        try:
            list_nodes(file)
        except Unreachable:
            stopping.wait(POLL_S)
        else:
            return


def is_whole(out: Path) -> bool:
    """Whether the study in ``out`` is finished, and no site's test notes are left to be read."""
    results = read_json(out / "results.json")
    return results is not None and not any(method.get("not_read") for method in results["methods"])


def files_of(out: Path) -> int:
    """How many rounds, updates and evaluations lie finished in the run's folder ``out``."""
    return sum(1 for folder in ("methods", "site-updates") for _ in (out / folder).rglob("*.json"))
