"""The files of a run, found and read: the state folder of its coordinator, its own folder, or both."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedmedlora.live_record import FILE_NAME, read_live, utc_now
from fedmedlora.results.check import check_evaluation
from fedmedlora.results.node_check import check
from fedmedlora.results.nodes import Many
from fedmedlora.results.schema import METHOD
from fedmedlora.run_folder import FORMAT, read_json
from fedmedlora.watch.status import NOTHING_YET, Finished, Status, status_of

STATE = "FEDMEDLORA_STATE"  # as in flower/state.py, which is not needed to watch
SUBMISSION, OUTCOME, RUN, RESULTS = "submission.json", "outcome.json", "run.json", "results.json"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run's files are. ``submission``: its folder in the coordinator's state folder. ``run``: the
    folder that ``--out`` named. ``others``: runs that are in the same state folder."""

    submission: Path | None
    run: Path | None
    others: tuple[str, ...] = ()


def find(path: Path, environ: Mapping[str, str] = os.environ) -> Place:
    """The run at ``path``: a state folder (of several runs the last one), a submission's folder in it, or the
    folder that ``--out`` named. Raises ``ValueError`` for anything else."""
    if not path.is_dir():
        raise ValueError(f"{path}: no such folder")
    if (path / SUBMISSION).is_file():
        return _of_submission(path)
    if (path / "study-runs.json").is_file():
        raise ValueError(f"{path}: holds several runs; name one of them, such as {path / 'runs/main/seed-1'}")
    if _is_run(path):
        return Place(_submitted(path, environ), path)
    if (path / "studies").is_dir():  # the state folder of a startup kit
        return find(path / "studies", environ)
    there = sorted((one.parent for one in path.glob(f"*/{SUBMISSION}")), key=_changed)
    if not there:
        raise ValueError(
            f"{path}: holds no run; give the coordinator's state folder ({STATE}) or the folder that --out "
            "named"
        )
    return _of_submission(there[-1], tuple(one.name for one in there[:-1]))


def read_status(place: Place, now_utc: str | None = None) -> Status:
    """How the run at ``place`` stands. Raises ``ValueError`` for a file that is damaged."""
    live = None if place.submission is None else read_live(place.submission)
    finished = NOTHING_YET if place.run is None else _finished(place.run)
    error = "" if place.submission is None else _error(place.submission)
    return status_of(live, finished, now_utc or utc_now(), error)


def _of_submission(folder: Path, others: tuple[str, ...] = ()) -> Place:
    found = read_json(folder / SUBMISSION)
    if not isinstance(found, dict) or not isinstance(found.get("out"), str):
        raise ValueError(f"{folder / SUBMISSION}: names no folder of results (out)")
    return Place(folder, Path(found["out"]), others)


def _changed(submission: Path) -> tuple[float, str]:
    times = [one.stat().st_mtime for name in (FILE_NAME, SUBMISSION) if (one := submission / name).exists()]
    return max(times, default=0.0), submission.name


def _is_run(path: Path) -> bool:
    found = read_json(path / RUN)
    return (path / RESULTS).is_file() or (isinstance(found, dict) and found.get("format") == FORMAT)


def _submitted(run: Path, environ: Mapping[str, str]) -> Path | None:
    """The submission that writes into ``run``: its name ends as ``flower/state.py`` makes it."""
    if not environ.get(STATE):
        return None
    ending = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:12]
    there = sorted(
        Path(environ[STATE]).glob(f"*-{ending}/{SUBMISSION}"), key=lambda one: _changed(one.parent)
    )
    return there[-1].parent if there else None


def _finished(run: Path) -> Finished:
    known = read_json(run / RUN)
    settings = known.get("settings") if isinstance(known, dict) else None
    folders = sorted(one for one in (run / "methods").glob("*") if one.is_dir())
    return Finished(
        settings=settings if isinstance(settings, dict) else {},
        rounds={one.name: found for one in folders if (found := list(_rounds(one)))},
        evaluations={one.name: found for one in folders if (found := list(_evaluations(one)))},
        is_done=(run / RESULTS).is_file(),
    )


def _rounds(folder: Path) -> Iterator[Mapping[str, Any]]:
    for path in sorted(folder.glob("round-*.json")):
        yield _round(path, *_version(path))


def _evaluations(folder: Path) -> Iterator[Mapping[str, Any]]:
    for path in sorted(folder.glob("*.json")):
        if not path.name.startswith("round-") and not path.name.endswith(".details.json"):
            yield _evaluation(path, *_version(path))


def _version(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=10_000)  # finished rounds stay as they are, and are asked for every second or two
def _round(path: Path, changed: int, size: int) -> Mapping[str, Any]:
    record = read_json(path)
    if isinstance(record, dict):
        record = {key: value for key, value in record.items() if key not in ("adapter_hash", "sha256")}
    rounds = METHOD.keys["rounds"]
    assert isinstance(rounds, Many), "see the schema"
    check(rounds.item, record, f"{path}")
    found: Mapping[str, Any] = record
    return found


@lru_cache(maxsize=10_000)
def _evaluation(path: Path, changed: int, size: int) -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_json(path)
    check_evaluation(found, f"{path}")
    return found


def _error(submission: Path) -> str:
    path = submission / OUTCOME
    return _outcome_error(path, *_version(path)) if path.is_file() else ""


@lru_cache(maxsize=16)  # it may hold all results
def _outcome_error(path: Path, changed: int, size: int) -> str:
    found = read_json(path)
    return str(found.get("error") or "") if isinstance(found, dict) else ""
