"""The coordinator's state folder: which study a name stands for, how far it is, how it ended.

``FEDMEDLORA_STATE`` in the coordinator's own environment names the folder; what comes over the network is
the short name of a study that somebody submitted on this very machine, and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmedlora import live_record
from fedmedlora.audit.signing import Signer, signer_of
from fedmedlora.flower.allows import Allows
from fedmedlora.flower.site_file import SiteFile
from fedmedlora.run_folder import read_json, write_json
from fedmedlora.study import Study, load_study
from fedmedlora.tasks.instruction import NAME as INSTRUCTION
from fedmedlora.tasks.task import known_tasks

STATE = "FEDMEDLORA_STATE"
SIGNS = "FEDMEDLORA_SIGNS"  # "no": a simulation, whose state folder ends with it, and the key in it
_MOST = 2**53
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,79}")


@dataclass(frozen=True, slots=True)
class Submission:
    """A study to run: its file, where its results go, and how long to wait for its sites."""

    name: str
    study: Path
    out: Path
    resume: bool
    wait_s: float
    command: tuple[str, ...]

    def load_study(self) -> Study:
        """The study, whose sites are elsewhere."""
        return load_study(self.study, sites_are_here=False)


def state_folder() -> Path:
    """The folder that the environment names. Raises ``ValueError`` where it names none."""
    named = os.environ.get(STATE)
    if not named:
        raise ValueError(
            f"{STATE} is not set: it names the coordinator's state folder, in the environment of the "
            "SuperLink and of `fedmedlora run` alike (for example /srv/fedmedlora/state)"
        )
    return Path(named)


def signer() -> Signer | None:
    """The coordinator's key, made in its state folder the first time; None where passports are not signed."""
    return None if os.environ.get(SIGNS) == "no" else signer_of(state_folder())


def submission_name(study: Study, out: Path) -> str:
    """A name that stands for this study and this output folder on this machine."""
    plain = re.sub(r"[^a-z0-9]+", "-", study.name.lower()).strip("-")[:40].strip("-") or "study"
    return f"{plain}-{hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:12]}"


def write_submission(state: Path, found: Submission) -> Path:
    """Put ``found`` into the folder ``state``, where the ServerApp looks for it. Returns its own folder."""
    folder = state / found.name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for file in ("outcome.json", "progress.log", *(() if found.resume else (live_record.FILE_NAME,))):
        (folder / file).unlink(missing_ok=True)
    record = {
        "study": str(found.study.resolve()),
        "out": str(found.out.resolve()),
        "resume": found.resume,
        "wait_s": found.wait_s,
        "command": list(found.command),
    }
    write_json(folder / "submission.json", record)
    return folder


def read_submission(name: str) -> tuple[Submission, Path]:
    """The study that ``name`` stands for, and its folder. Raises ``ValueError`` for a name of none.

    ``name`` came over the network: it is looked up among the submitted ones and is never a path.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("the run names no study that was submitted here; start it with `fedmedlora run`")
    folder = state_folder() / name
    record = read_json(folder / "submission.json")
    if record is None:
        raise ValueError(f"no study {name!r} was submitted on this machine; start it with `fedmedlora run`")
    found = Submission(
        name=name,
        study=Path(record["study"]),
        out=Path(record["out"]),
        resume=record["resume"],
        wait_s=record["wait_s"],
        command=tuple(record["command"]),
    )
    return found, folder


def write_run(folder: Path, run_id: str) -> None:
    """Remember Flower's id of the run of the study that ``folder`` belongs to."""
    write_json(folder / "run.json", {"run_id": run_id})


def read_run(folder: Path) -> str:
    """Flower's id of the study's last run; "" where there was none."""
    found = read_json(folder / "run.json") or {}
    return str(found.get("run_id", ""))


def write_outcome(
    folder: Path, *, results: dict[str, Any] | None, error: str = "", may_go_on: bool = False
) -> None:
    """How the study ended: its results, or what went wrong, and whether the same run may yet get further."""
    write_json(folder / "outcome.json", {"results": results, "error": error, "may_go_on": may_go_on})


def read_outcome(folder: Path) -> dict[str, Any] | None:
    """What ``write_outcome`` wrote, or None while the study runs."""
    found: dict[str, Any] | None = read_json(folder / "outcome.json")
    return found


def simulated_site(name: str, index: int) -> SiteFile:
    """The site number ``index`` (from 0) of the study that ``name`` stands for, with everything allowed.

    For a simulation on the coordinator's own machine, whose study file names the sites' notes.
    """
    found, folder = read_submission(name)
    study = found.load_study()
    if not 0 <= index < len(study.sites):
        raise ValueError(f"simulated site {index}: the study has {len(study.sites)} sites")
    site = study.sites[index]
    if not site.train:
        raise ValueError(
            f"[[sites]] {site.name} train: missing; a simulation reads the notes on this machine"
        )
    return SiteFile(
        name=site.name,
        train=site.train,
        test=site.test,
        state=str(folder / "sites" / site.name),
        model=study.model,
        allows=Allows(
            tasks=(*known_tasks(), INSTRUCTION),
            max_rank=study.adapter.rank,
            max_alpha=study.adapter.alpha,
            whole_model=True,
            max_rounds=study.training.rounds,
            max_steps_per_round=_MOST,
            max_passes_per_round=_MOST,
            max_total_rounds=_MOST,
            max_total_steps=_MOST,
            validates_others=True,
            shows_adapter=True,
        ),
        folder=study.folder,
    )
