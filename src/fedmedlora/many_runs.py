"""A study of many runs: every arm under every seed, and what they say together.

Each run is an ordinary one, in a folder of its own. What several have in common (the first round of two
rules, the training of a site that an arm does not touch, the reading of an adapter that did not change) is
done once, and a study that is stopped at any moment goes on where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from fedmedlora import __version__
from fedmedlora.experiment import run_study
from fedmedlora.prepare import file_hashes
from fedmedlora.progress import Progress, Silent
from fedmedlora.run_folder import differing_settings, is_fresh, read_json, write_json
from fedmedlora.side_by_side import SideBySide, run_side_by_side
from fedmedlora.study import Study
from fedmedlora.study_names import MAIN
from fedmedlora.study_public import public_settings
from fedmedlora.study_results import RUNS, study_results
from fedmedlora.study_runs import runs_of

FORMAT, VERSION = "fedmedlora-many-runs", 1
SHARED = "shared"
_GOING = "shared.going"  # what is being removed


def run_many(
    study: Study,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] = (),
    only: Collection[str] = (),
    keep_shared: bool = False,
    after_run: Callable[[str, dict[str, Any]], None] = lambda label, results: None,
    side_by_side: SideBySide | None = None,
) -> dict[str, Any]:
    """Run all runs of ``study`` into ``folder`` and return what ``study-results.json`` holds.

    ``only``: names of arms, besides "main"; others count as well where they are finished. With ``resume``
    a study that was stopped goes on; arms and seeds may have been added to its file since. ``keep_shared``:
    leave the common work there for a later call. ``after_run``: called with each run that has finished, its
    label and its results. ``side_by_side``: several runs at a time; what they do is shown there then, and
    ``progress`` shows the rest. Raises ``ValueError`` for whatever is wrong with the study, its notes or the
    folder, and for a finished run of other settings or notes; ``ChildProcessError`` for one of several runs
    at a time whose process ended without a word.
    """
    progress = progress or Silent()
    runs = runs_of(study)
    wanted = runs_of(study, {MAIN, *only} if only else ())
    _open(folder, resume=resume)
    for run in runs:  # those of arms that are not wanted now, too: what is finished counts
        if (folder / run.folder / "results.json").exists():
            _refuse_changed(folder / run.folder, run.study, run.label)
    _tell_settings(folder, study)
    missing = [run for run in wanted if not (folder / run.folder / "results.json").exists()]
    if side_by_side is not None and missing:
        run_side_by_side(
            side_by_side,
            folder,
            missing,
            shared=folder / SHARED,
            command=command,
            num_finished=len(wanted) - len(missing),
            after_run=lambda run: after_run(run.label, read_json(folder / run.folder / "results.json")),
        )
        missing = []
    for run in missing:
        here, number = folder / run.folder, wanted.index(run) + 1
        with progress.run(run.label, number, len(wanted)):
            found = run_study(
                run.study,
                here,
                resume=(here / "run.json").exists(),
                progress=progress,
                command=command,
                shared=folder / SHARED,
            )
            write_json(here / "results.json", found)
            after_run(run.label, found)
    is_whole = all((folder / run.folder / "results.json").exists() for run in runs)
    if is_whole and not keep_shared:
        _remove_shared(folder)
    return study_results(study, runs, folder, command=command, progress=progress)


def _open(folder: Path, *, resume: bool) -> None:
    """Begin in ``folder``, or go on. Raises ``ValueError`` for a folder that holds something else."""
    is_file = folder.exists() and not folder.is_dir()
    known = None if is_file else read_json(folder / RUNS)
    if known is None:
        if is_file or not is_fresh(folder, RUNS):
            raise ValueError(
                f"{folder}: holds something that is not a study of many runs; name a new or an empty folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RUNS, {"format": FORMAT, "version": VERSION, "fedmedlora": __version__})
    elif not resume:
        raise ValueError(f"{folder}: holds a study already; go on with it (--resume) or name another folder")


def _tell_settings(folder: Path, study: Study) -> None:
    """Keep what the study asks for, so that a report can be made of the runs where its file is not."""
    known = read_json(folder / RUNS)
    told = {**known, "settings": public_settings(study)}
    if told != known:
        write_json(folder / RUNS, told)


def _remove_shared(folder: Path) -> None:
    """Remove the common work: under its own name it is whole or not there, at whatever moment this stops."""
    going = folder / _GOING
    shutil.rmtree(going, ignore_errors=True)
    if (folder / SHARED).exists():
        (folder / SHARED).rename(going)
        shutil.rmtree(going, ignore_errors=True)


def _refuse_changed(folder: Path, study: Study, label: str) -> None:
    """Raise ``ValueError`` where a finished run is one of other settings, or of other notes."""
    known = read_json(folder / "run.json") or {}
    if known.get("study_hash") != study.study_hash():
        then = (read_json(folder / "results.json") or {}).get("study", {})
        names = differing_settings(then, public_settings(study))
        what = f"settings ({', '.join(names)})" if names else "settings"
    elif known.get("files") != file_hashes(study):
        what = "notes"
    else:
        return
    raise ValueError(
        f"{folder}: the run ({label}) in it is finished and was made with other {what}; remove its "
        "folder to run it again, or name another folder with --out"
    )
