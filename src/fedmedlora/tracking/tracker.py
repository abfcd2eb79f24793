"""What a tracker is, how one is found by name, and which numbers it is given.

A tracker is one file in this folder with ``open_tracker(study, run, folder) -> Tracker``. It uses its own
library, which is imported there and nowhere else, and finds its server, if it has one, as that library does
(its own environment variables). It is given settings, as ``results.json`` holds them, and numbers: never
text of notes, predictions, or a path out of the study's folder.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import fedmedlora.tracking

NOT_TRACKERS = frozenset({"tracker"})


class Tracker(Protocol):
    """One run in somebody's tracking tool."""

    def settings(self, found: Mapping[str, str]) -> None:
        """Settings of the run, by dotted name."""

    def number(self, name: str, value: float, step: int) -> None:
        """One number; ``step``: the round, or 0 for what is measured at the end."""

    def close(self) -> None:
        """Everything has been told."""


def known_trackers() -> tuple[str, ...]:
    """Names of all trackers."""
    found = pkgutil.iter_modules(fedmedlora.tracking.__path__)
    return tuple(sorted(module.name for module in found if module.name not in NOT_TRACKERS))


def refuse_unknown(names: Sequence[str]) -> None:
    """Raise ``ValueError`` for a name that is none, and for a tracker whose library is not installed."""
    for name in names:
        if name not in known_trackers():
            raise ValueError(f"tracker {name[:80]!r}: known trackers are {', '.join(known_trackers())}")
        _load(name).require()


def track(names: Sequence[str], results: Mapping[str, Any], *, run: str, folder: Path) -> None:
    """Tell ``results``, as ``results.json`` holds them, to the trackers ``names``. ``run``: how it is called.

    ``folder``: where trackers that write files put them.
    """
    for name in names:
        tracker: Tracker = _load(name).open_tracker(results["name"], run, folder)
        try:
            tracker.settings(dict(flat(results["study"])))
            for number, value, step in numbers(results):
                tracker.number(number, value, step)
        finally:
            tracker.close()


def numbers(results: Mapping[str, Any]) -> Iterator[tuple[str, float, int]]:
    """(name, value, step) of everything that was measured: rounds first, then F1 of every cohort."""
    for method in results["methods"]:
        name = method["name"].replace(":", "-")
        for one in method["rounds"]:
            step = one["round_num"]
            for site in one["sites"]:
                for key in ("train_loss", "validation_loss", "seconds", "upload_bytes", "download_bytes"):
                    if site[key] is not None:
                        yield f"{name}/{key}/{site['site']}", float(site[key]), step
            for site, weight in one["weights"].items():
                yield f"{name}/weight/{site}", float(weight), step
            for key, value in (one["validation"] or {}).items():
                if value is not None:
                    yield f"{name}/validation/{key}", float(value), step
        for evaluation in method["evaluations"]:
            where = f"{name}/{evaluation['cohort']}/{evaluation['decoding']}"
            for kind, score in evaluation["scores"].items():
                for criterion in ("strict", "lenient"):
                    f1 = None if score is None else score[criterion]["f1"]
                    if f1 is not None:
                        yield f"{where}/{kind}_{criterion}_f1", float(f1), 0
            answers = evaluation["answers"]
            if answers is not None and answers["score"] is not None:
                yield f"{where}/{answers['metric']}", float(answers["score"]), 0


def flat(settings: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, value as text) of all settings; lists of tables by the tables' names."""
    for key, value in settings.items():
        name = f"{head}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            for one in value:
                yield from flat({k: v for k, v in one.items() if k != "name"}, f"{name}.{one.get('name')}.")
        else:
            yield name, str(value)


def _load(name: str) -> Any:
    return importlib.import_module(f"fedmedlora.tracking.{name}")
