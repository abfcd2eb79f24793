"""An adapter's folder against its passport, and the passport against the audit log where that is at hand."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fedmedlora.audit.chain import read_line
from fedmedlora.audit.entries import Finished, Opened
from fedmedlora.audit.log_file import LOG, lines_of, verify_file
from fedmedlora.audit.passport import MOST_BYTES, PASSPORT, UNSIGNED, Passport, SignedPassport, read_passport
from fedmedlora.audit.signing import PublicKey

WEIGHTS = "adapter_model.safetensors"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Checked:
    """``problems``: what is wrong. ``notes``: what could not be looked at, and what that leaves open."""

    read: SignedPassport
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def check_folder(folder: Path, *, key: PublicKey | None = None, log: Path | None = None) -> Checked:
    """The adapter in ``folder`` against its passport.

    ``key``: whose signature it must bear. ``log``: the coordinator's audit log; where none is named, that of
    the run which the folder lies in, if it is there. Raises ``ValueError`` for a passport that cannot be read
    as one, and ``OSError`` for a file that cannot be read.
    """
    path = folder / PASSPORT
    if not path.is_file():
        raise ValueError(
            f"{folder}: holds no {PASSPORT}; name the folder of an adapter, under a run's adapters/"
        )
    with path.open("rb") as file:
        found = read_passport(file.read(MOST_BYTES + 1))
    problem = found.signature_problem(key)
    problems = [problem] if problem else []
    problems += _files_problems(folder, found.passport)
    notes = []
    if found.signature == UNSIGNED:
        notes.append("signature: none; anybody could have written this passport")
    elif key is None:
        notes.append("whose key it is was not looked at: name the coordinator's with --key")
    beside = folder.resolve().parent.parent / LOG
    log = beside if log is None and beside.is_file() else log
    if log is None:
        notes.append("the audit log is not at hand: name it with --log")
    else:
        problems += _log_problems(log, found.passport)
    return Checked(found, tuple(problems), tuple(notes))


def _files_problems(folder: Path, passport: Passport) -> list[str]:
    problems = [] if WEIGHTS in passport.adapter.files else [f"{WEIGHTS}: the passport says nothing about it"]
    for name, expected in passport.adapter.files.items():
        if not (folder / name).is_file():
            problems.append(f"{name}: is not there")
        elif file_sha256(folder / name) != expected:
            problems.append(f"{name}: not the file that the passport was made for")
    return problems


def _log_problems(log: Path, passport: Passport) -> list[str]:
    end = passport.audit
    found = verify_file(log, end.head)
    problems = [f"{log.name}, line {one.line}: {one.what}" for one in found.problems]
    if problems:
        return problems
    if found.log_id != end.log_id:
        return [f"{log.name}: is another log than the one that the passport names"]
    left: set[str] = set()
    for line in lines_of(log):
        one = read_line(line)
        assert not isinstance(one.entry, Opened) or one.entry.log_id == end.log_id, "verified"
        if isinstance(one.entry, Finished) and one.sequence <= end.head.num_entries:
            left |= set(one.entry.adapters.values())
    if passport.adapter.files.get(WEIGHTS) not in left:
        return [f"{log.name}: no run in it finished with this adapter"]
    return []


def file_sha256(path: Path) -> str:
    """Of the file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
