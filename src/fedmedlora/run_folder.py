"""The folder of a run: finished rounds, evaluations, adapters, and what makes ``--resume`` safe.

Every file is written beside its place and renamed, so a run that is killed at any moment leaves whole
files only, and a run that is resumed finds either a finished piece or none. What later rounds are made of,
the rounds' adapters and records and the sites' updates and their numbers, carries a hash besides, by which
damage of the disk is noticed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from fedmedlora.audit.canonical import canonical
from fedmedlora.corpora.jsonl import write_atomically
from fedmedlora.durable import flush_folders
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.only_one import is_held, only_one

FORMAT, VERSION = "fedmedlora-run", 1
ASIDE = ".damaged"
_AGAIN = "with --resume that round and all later ones are put aside and computed again"
_SEAL = "sha256"


class DamagedRound(ValueError):  # noqa: N818 - a state of the disk, not of the program
    """A finished round is not on the disk as it was saved."""


def write_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` (folders made as needed) whole or not at all, flushed to the disk."""
    write_atomically(path, content)


def write_json(path: Path, record: Any) -> None:
    """Write ``record`` as JSON, whole or not at all."""
    write_file(path, (json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The JSON in ``path``, or None where there is no such file. Raises ``ValueError`` for a damaged one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        told = f"{path}: damaged ({type(error).__name__}); remove it and go on with --resume"
        raise ValueError(told) from error


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """``record`` with the sha256 of its canonical JSON, by which ``unsealed`` knows it again."""
    return {**record, _SEAL: hashlib.sha256(canonical(dict(record))).hexdigest()}


def unsealed(found: Any) -> dict[str, Any]:
    """What was given to ``sealed``. Raises ``ValueError`` for anything else, but for a record without a
    hash: versions before this one wrote none."""
    if not isinstance(found, dict):
        raise ValueError("not a record")
    record = {key: value for key, value in found.items() if key != _SEAL}
    if _SEAL in found and found != sealed(record):
        raise ValueError("not the record that was saved there")
    return record


@contextmanager
def claimed(folder: Path, pieces: Collection[str]) -> Iterator[None]:
    """Within the block no other process is at work on one of ``pieces``, whose place is in ``folder``.

    Waits for one that is; afterwards look again whether it has left the piece there. Taken in one order
    everywhere, so that two that want several never wait for each other. The system frees what a killed
    process had.
    """
    with ExitStack() as stack:
        if pieces:
            (folder / "claims").mkdir(parents=True, exist_ok=True)
        for piece in sorted(set(pieces)):
            stack.enter_context(FileLock(folder / "claims" / hashlib.sha256(piece.encode()).hexdigest()[:32]))
        yield


def alone_in(folder: Path, *, wait_s: float = 5.0) -> AbstractContextManager[None]:
    """Within the block no other process goes on with the run in ``folder``: two would write the same rounds.
    See ``only_one``."""
    told = f"{folder}: another process is at work on this run; wait until it has ended"
    return only_one(folder / ".lock", told, wait_s=wait_s)


def is_worked_on(folder: Path) -> bool:
    """Whether a process goes on with the run in ``folder`` now."""
    return is_held(folder / ".lock")


def open_run(
    folder: Path, identity: Mapping[str, Any], *, resume: bool, settings: Mapping[str, Any] | None = None
) -> str:
    """Begin a run in ``folder``, or (``resume``) go on with the one that is there. Returns the run's id,
    which no other run has and which it keeps when it goes on.

    ``identity``: what must be the same for a run to go on (settings, notes, base model), by name.
    ``settings``: what ``public_settings`` gives, kept to name those that differ.
    Raises ``ValueError`` when the folder holds something and ``resume`` is not set, and when the run in
    it differs, naming in what.
    """
    record = {"format": FORMAT, "version": VERSION, **identity}
    extra = {} if settings is None else {"settings": settings}
    is_file = folder.exists() and not folder.is_dir()
    known = None if is_file else read_json(folder / "run.json")
    if known is None:
        if is_file or not is_fresh(folder, "run.json"):
            raise ValueError(
                f"{folder}: holds something that is not a run; name a new or an empty folder with --out"
            )
        folder.mkdir(parents=True, exist_ok=True)
        run_id = uuid.uuid4().hex
        write_json(folder / "run.json", record | extra | {"run_id": run_id})
        return run_id
    if not resume:
        raise ValueError(f"{folder}: holds a run already; go on with it (--resume) or name another folder")
    differing = [key for key in record if known.get(key) != record[key]]
    if differing:
        names = differing_settings(known["settings"], settings or {}) if "settings" in known else []
        if "study_hash" in differing:  # a name for the settings that says nothing to a person
            differing.remove("study_hash")
            names = names or ["settings"]
        raise ValueError(
            f"{folder}: the run in it differs in {', '.join(differing + names)}, so going on would mix two "
            "runs; name another folder with --out"
        )
    return str(known.get("run_id", ""))


def differing_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the settings in which two records of ``public_settings`` differ, such as ``training.rounds``
    and ``sites.kiwi.max_notes``: what to look for in the file, without its values. A table that only one of
    them has is named as a whole."""
    return list(_differing(one, other, ""))


def _differing(one: Any, other: Any, name: str) -> Iterator[str]:
    ones, others = by_name(one), by_name(other)
    if ones is None or others is None:
        if one != other:
            yield name
        return
    for key in {**ones, **others}:
        inner = f"{name}.{key}" if name else key
        if key in ones and key in others:
            yield from _differing(ones[key], others[key], inner)
        else:
            yield inner


def by_name(value: Any) -> Mapping[str, Any] | None:
    """A table, or tables that have names, such as sites; None: a value."""
    if isinstance(value, list) and value and all(isinstance(one, Mapping) and "name" in one for one in value):
        return {one["name"]: one for one in value}
    return value if isinstance(value, Mapping) else None


def is_fresh(folder: Path, first: str) -> bool:
    """Whether ``folder`` is not there or holds nothing, but for what a kill left of the file ``first``."""
    if not folder.exists():
        return True
    return all(path.name.startswith(f".{first}.") and path.suffix == ".part" for path in folder.iterdir())


@dataclass(frozen=True, slots=True)
class MethodFolder:
    """One method's finished rounds: ``round-001.safetensors`` and ``round-001.json``, and so on.

    The record is written last: without it a round is not finished.
    """

    folder: Path

    def load(self, round_num: int) -> tuple[Adapter, dict[str, Any]] | None:
        """See ``rounds.RoundStore``. Raises ``DamagedRound``."""
        record = self.record(round_num)
        if record is None:
            return None
        path = self._path(round_num, "safetensors")
        try:
            adapter = Adapter.from_bytes(path.read_bytes())
            whole = adapter.hash() == record.pop("adapter_hash")
        except (OSError, ValueError, KeyError) as error:
            _raise_what_is_no_damage(error)
            whole = False
        if not whole:
            raise DamagedRound(f"{path}: not the adapter that was saved there; {_AGAIN}")
        return adapter, record

    def record(self, round_num: int) -> dict[str, Any] | None:
        """The record of a finished round, without its adapter; None where it is not finished. Raises
        ``DamagedRound``."""
        path = self._path(round_num, "json")
        try:
            found = read_json(path)
            return None if found is None else unsealed(found)
        except (OSError, ValueError) as error:
            _raise_what_is_no_damage(error)
            raise DamagedRound(f"{path}: not the record that was saved there; {_AGAIN}") from error

    def is_finished(self, round_num: int) -> bool:
        """Whether ``load`` would find the round."""
        return self._path(round_num, "json").exists()

    def finished(self) -> list[int]:
        """The finished rounds, whole or not."""
        return sorted(int(path.stem.removeprefix("round-")) for path in self.folder.glob("round-*.json"))

    def put_aside(self, round_num: int) -> None:
        """Rounds from ``round_num`` on are no longer there, nor what was measured of what came of them: each
        file stays beside its place, under another name."""
        there = [self._path(one, "json") for one in self.finished() if one >= round_num]
        adapters = [path.with_suffix(".safetensors") for path in there]
        measured = [path for path in self.folder.glob("*.json") if not path.name.startswith("round-")]
        # The first damaged one last: a kill in between leaves it to be found again.
        found = [path for path in (*measured, *reversed(adapters), *reversed(there)) if path.exists()]
        for path in found:
            path.replace(_free_name(path))
        flush_folders(path.parent for path in found)

    def evaluation(self, cohort: str, decoding: str) -> Path:
        """Where the method's scores on a cohort are kept."""
        return self.folder / f"{cohort}-{decoding}.json"

    def details(self, cohort: str, decoding: str) -> Path:
        """Where the counts of each note are kept, which intervals over several runs are made of."""
        return self.folder / f"{cohort}-{decoding}.details.json"

    def save(self, round_num: int, adapter: Adapter, record: dict[str, Any]) -> None:
        """See ``rounds.RoundStore``."""
        write_file(self._path(round_num, "safetensors"), adapter.to_bytes())
        write_json(self._path(round_num, "json"), sealed({**record, "adapter_hash": adapter.hash()}))

    def _path(self, round_num: int, ending: str) -> Path:
        return self.folder / f"round-{round_num:03d}.{ending}"


def _raise_what_is_no_damage(error: Exception) -> None:
    """A file that cannot be read just now (no memory, a disk that is away) is there still: only one that is
    gone, or that the disk itself cannot read, is damaged."""
    if isinstance(error, OSError) and error.errno not in (errno.ENOENT, errno.EIO):
        raise error


def _free_name(path: Path) -> Path:
    """Beside ``path``, where nothing is: "NAME.damaged", or with a number behind it."""
    names = (path.with_name(f"{path.name}{ASIDE}{number}") for number in ("", *range(2, 10_000)))
    return next(name for name in names if not name.exists())


@dataclass(frozen=True, slots=True)
class UpdateCache:
    """Site updates by (site, round, starting adapter, ``key``): trained once, used by every rule and run.

    ``key``: sha256 of whatever else an update depends on.
    """

    folder: Path

    def load(
        self, site: str, round_num: int, started_from: str, key: str
    ) -> tuple[SiteUpdate, dict[str, Any]] | None:
        """The update and its numbers, or None."""
        path = self._path(site, round_num, started_from, key)
        try:
            found = read_json(path.with_suffix(".json"))
            if found is None:
                return None
            numbers = unsealed(found)
            update = SiteUpdate.from_bytes(path.with_suffix(".safetensors").read_bytes())
            whole = update.adapter.hash() == numbers.pop("adapter_hash")
        except (OSError, ValueError, KeyError):
            whole = False
        return (update, numbers) if whole else None  # what a disk has damaged is trained again

    def save(self, update: SiteUpdate, numbers: dict[str, Any], key: str) -> None:
        """Keep ``update``."""
        path = self._path(update.site, update.round_num, update.started_from, key)
        write_file(path.with_suffix(".safetensors"), update.to_bytes())
        write_json(path.with_suffix(".json"), sealed({**numbers, "adapter_hash": update.adapter.hash()}))

    def claimed(
        self, started_from: str, round_num: int, keys: Mapping[str, str]
    ) -> AbstractContextManager[None]:
        """See ``claimed``: the updates of these sites, site -> key."""
        paths = [self._path(site, round_num, started_from, key) for site, key in keys.items()]
        return claimed(self.folder, [path.name for path in paths])

    def clear(self) -> None:
        """Remove everything; the finished rounds hold what a report needs."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, site: str, round_num: int, started_from: str, key: str) -> Path:
        return self.folder / f"{started_from[:24]}-{key[:16]}-{round_num:03d}-{site}.x"


@dataclass(frozen=True, slots=True)
class EvaluationCache:
    """Evaluations of a study's runs, by the hash of what they depend on: nothing is read twice."""

    folder: Path

    def load(self, key: str, predictions: Path, details: Path) -> dict[str, Any] | None:
        """The record saved under ``key``, or None; its files are put where this run keeps its own."""
        record: dict[str, Any] | None = read_json(self.folder / key / "record.json")
        if record is None:
            return None
        for path in (self.folder / key / "predictions").rglob("*"):
            if path.is_file():
                write_file(
                    predictions / path.relative_to(self.folder / key / "predictions"), path.read_bytes()
                )
        if (self.folder / key / "details.json").exists():
            write_file(details, (self.folder / key / "details.json").read_bytes())
        return record

    def save(
        self, key: str, record: Mapping[str, Any], predictions: Path, cohort: str, details: Path
    ) -> None:
        """Keep ``record`` and its files, those of ``cohort`` in the folder ``predictions``."""
        for path in (*predictions.glob(f"{cohort}.json"), *predictions.glob(f"*/{cohort}.jsonl")):
            write_file(self.folder / key / "predictions" / path.relative_to(predictions), path.read_bytes())
        if details.exists():
            write_file(self.folder / key / "details.json", details.read_bytes())
        write_json(self.folder / key / "record.json", record)

    def claimed(self, keys: Collection[str]) -> AbstractContextManager[None]:
        """See ``claimed``: the evaluations under these keys."""
        return claimed(self.folder, keys)


@dataclass(frozen=True, slots=True)
class SignalCache:
    """What adapters were measured to be worth, by the hash of what that depends on."""

    folder: Path

    def load(self, key: str) -> tuple[float, float] | None:
        """The number saved under ``key``, which may be infinite or no number, and the seconds that measuring
        it took; or None."""
        record = read_json(self.folder / f"{key}.json")
        return None if record is None else (float(record["value"]), float(record["seconds"]))

    def save(self, key: str, value: float, seconds: float) -> None:
        """Keep ``value``."""
        number = repr(float(value))  # JSON has no infinity
        write_json(self.folder / f"{key}.json", {"value": number, "seconds": seconds})

    def claimed(self, keys: Collection[str]) -> AbstractContextManager[None]:
        """See ``claimed``: the numbers under these keys."""
        return claimed(self.folder, keys)
