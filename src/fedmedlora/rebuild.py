"""What a study's runs say together, made again of their folders alone: no notes, no model, nothing is run.

For runs that were copied or published without ``study-results.json``, as those in ``docs/results``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmedlora.progress import Progress
from fedmedlora.results.check import validate
from fedmedlora.run_folder import by_name, differing_settings, read_json
from fedmedlora.settings import read_table
from fedmedlora.study import Study, parse_study
from fedmedlora.study_names import MAIN
from fedmedlora.study_public import public_settings
from fedmedlora.study_results import RUNS, study_results
from fedmedlora.study_runs import PlannedRun, arms_of

_NOT_OF_AN_ARM = ("name", "seed", "seeds", "sample_seed", "arms")


def rebuilt(folder: Path, study_file: Path | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """What ``study-results.json`` of ``folder`` holds, made again.

    The study is the one of ``study_file``, else the one that ``study-runs.json`` tells of, else what the runs
    tell: their arms then have neither titles nor places in figures, and stand in one group. Raises
    ``ValueError`` for a study file that is none or has other settings than the runs, for damaged results of a
    run, and without any arm whose runs are all finished.
    """
    if study_file is not None:
        try:
            text = study_file.read_bytes().decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{study_file}: cannot be read; give the study file of the runs") from error
        study, _ = parse_study(text, source=study_file.name, folder=study_file.parent)
    else:
        settings = (read_json(folder / RUNS) or {}).get("settings") or _settings_of_runs(folder)
        study = read_table(Study, settings, f"{folder}:", {"folder": folder, "sites_are_here": True})
    seeds = study.seeds or (study.seed,)
    # Nothing is run, so the study of an arm, whose notes may not be here, is not made.
    planned = [PlannedRun(arm, seed, study) for arm in arms_of(study) for seed in arm.seeds or seeds]
    paths = [(run, folder / run.folder / "results.json") for run in planned]
    finished = [(run, _read(path)) for run, path in paths if path.exists()]
    own = next((one["study"] for run, one in finished if run.arm.name == MAIN), None)
    if own is not None:
        _refuse_other(study, own, folder)
    told = [one for _, one in finished]
    command = next((one["command"] for one in told), ())
    results = study_results(study, planned, folder, command=command, progress=progress)
    return results | {"created_utc": max(one["created_utc"] for one in told)}


def _read(path: Path) -> dict[str, Any]:
    """The results of a run; what they name, and is looked for on the disk, is in the run's folder."""
    found: dict[str, Any] = read_json(path)
    try:
        validate(found)
        for method in found["methods"]:
            for name in (method["name"], *(one["cohort"] for one in method["evaluations"])):
                if set(name) & set("/\\\0"):
                    raise ValueError(f"{name[:80]!r} is no name of a method or a cohort")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return found


def _refuse_other(study: Study, own: Mapping[str, Any], folder: Path) -> None:
    """Raise ``ValueError`` where ``own``, the settings of a run of "main", are not the study's."""
    ours, theirs = (
        {key: value for key, value in one.items() if key not in _NOT_OF_AN_ARM}
        for one in (public_settings(study), own)
    )
    differing = differing_settings(theirs, ours)
    if differing:
        raise ValueError(
            f"{folder}: its runs were made with other settings than the study has ({', '.join(differing)}); "
            "name their own study file with --study, or leave that out"
        )


def _settings_of_runs(folder: Path) -> dict[str, Any]:
    """Settings of a study whose file is not known: those of "main", and what other runs have in its place."""
    by_arm: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted(folder.glob("runs/*/seed-*/results.json")):
        settings = _read(path)["study"]
        by_arm.setdefault(path.parts[-3], {})[settings["seed"]] = settings
    if MAIN not in by_arm:
        raise ValueError(
            f"{folder}: no run of the study as it stands (runs/{MAIN}) is finished; go on with run --resume"
        )
    seeds = sorted(by_arm[MAIN])
    main = by_arm.pop(MAIN)[seeds[0]]
    arms = [
        {
            "name": arm,
            "change": _changes(main, next(iter(of_arm.values()))),
            "group": "Arms",
            "seeds": [seed for seed in seeds if seed in of_arm],
        }
        for arm, of_arm in by_arm.items()
        if set(of_arm) & set(seeds)
    ]
    return {**main, "seeds": seeds, "arms": arms}


def _changes(main: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``other`` that ``main`` has not, as ``[[arms]] change`` would write them."""
    found: dict[str, Any] = {}
    for key, value in other.items():
        ones, others = by_name(main.get(key)), by_name(value)
        if key in _NOT_OF_AN_ARM or value == main.get(key):
            continue
        if ones is not None and others is not None and ones.keys() == others.keys():
            found[key] = _changes(ones, others)
        else:
            found[key] = value
    return found
