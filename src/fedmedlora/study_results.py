"""Many runs -> what they say together: means and intervals over seeds and notes, differences, calibration."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fedmedlora.evaluation.calibration import (
    average_precision,
    expected_calibration_error,
    precision_recall_curve,
    reliability_bins,
)
from fedmedlora.evaluation.compare import compare_methods, mean_over_cohorts
from fedmedlora.evaluation.seeds import Cells, f1_by_seed, f1_interval_over_seeds, mean, mean_f1
from fedmedlora.progress import Progress, Silent
from fedmedlora.run_folder import MethodFolder, read_json
from fedmedlora.study import Study
from fedmedlora.study_public import public_settings
from fedmedlora.study_runs import PlannedRun, arms_of

FORMAT, VERSION = "fedmedlora-study-results", 1
RUNS = "study-runs.json"  # in the folder of a study of many runs, and nowhere else
COMPARED = ("entities", "modifiers_gold")  # kinds of item whose differences are tested; others have intervals
NUM_POINTS = 200  # of a precision-recall curve, at most
_CRITERIA = ("strict", "lenient")


@dataclass(frozen=True)
class Measured:
    """One method on one cohort under every seed of an arm.

    ``cells``: (kind, criterion) -> tp, fp, fn of (seed, note). ``records``: the evaluations of the runs.
    ``calibration``: of each seed, as ``measure.details`` gives it, where the method tells.
    """

    method: str
    cohort: str
    decoding: str
    records: tuple[dict[str, Any], ...]
    cells: Mapping[tuple[str, str], Cells]
    calibration: tuple[dict[str, Any], ...]


def study_results(
    study: Study,
    runs: Sequence[PlannedRun],
    folder: Path,
    *,
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What ``study-results.json`` holds: of every arm whose runs are all finished.

    ``folder``: the study's. Raises ``ValueError`` where no arm is finished, and for a damaged file.
    """
    progress = progress or Silent()
    finished = _finished(runs, folder)
    if not finished:
        raise ValueError(f"{folder}: no arm has all its runs; go on with --resume")
    arms = [arm for arm in arms_of(study) if arm.name in finished]
    first = next(iter(finished.values()))[0][1]
    scores: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    calibration: list[dict[str, Any]] = []
    for arm in arms:
        of_arm = finished[arm.name]
        kinds = {cohort["name"]: cohort["kind"] for cohort in of_arm[0][1]["cohorts"]}
        with progress.stage(f"intervals and tests of {arm.name}", 0.0):
            measured = _measured(of_arm, folder)
            named = {"arm": arm.name}
            scores += [named | one for one in _scores(measured, study)]
            means += [named | one for one in _means(measured, kinds, study)]
            comparisons += [named | one for one in _comparisons(measured, kinds, study)]
            calibration += [named | one for one in _calibrations(measured)]
    environment = {key: value for key, value in first["environment"].items() if key != "seed"}
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": study.name,
        "created_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": list(command),
        "study": public_settings(study),
        "environment": environment,
        "model": first["model"],
        "seeds": list(study.seeds or (study.seed,)),
        "arms": [
            {
                "name": arm.name,
                "title": arm.title or arm.name,
                "group": arm.group,
                "x": None if isinstance(arm.x, str) else arm.x,
                "x_label": arm.x_label,
                "changes": _public_changes(study, arm.name),
                "cohorts": finished[arm.name][0][1]["cohorts"],
                "num_sites": sum(1 for c in finished[arm.name][0][1]["cohorts"] if c["num_train_examples"]),
            }
            for arm in arms
        ],
        "runs": [
            {"arm": run.arm.name, "seed": run.seed, "folder": run.folder, "methods": found["methods"]}
            for arm in arms
            for run, found in finished[arm.name]
        ],
        "scores": scores,
        "means": means,
        "comparisons": comparisons,
        "calibration": calibration,
    }


def _finished(runs: Sequence[PlannedRun], folder: Path) -> dict[str, list[tuple[PlannedRun, dict[str, Any]]]]:
    """Arm -> its runs with their results, of arms that have them all."""
    found: dict[str, list[tuple[PlannedRun, dict[str, Any]]]] = {}
    missing = set()
    for run in runs:
        results = read_json(folder / run.folder / "results.json")
        if results is None:
            missing.add(run.arm.name)
        else:
            found.setdefault(run.arm.name, []).append((run, results))
    return {arm: of_arm for arm, of_arm in found.items() if arm not in missing}


def _public_changes(study: Study, arm: str) -> dict[str, Any]:
    changes = {one["name"]: one["change"] for one in public_settings(study)["arms"]}
    return dict(changes.get(arm, {}))


def _measured(of_arm: Sequence[tuple[PlannedRun, dict[str, Any]]], folder: Path) -> list[Measured]:
    """Every (method, cohort, decoding) that all runs of an arm have read, in the order of the first run."""
    by_run: list[dict[tuple[str, str, str], dict[str, Any]]] = []
    for _, results in of_arm:
        by_run.append(
            {
                (method["name"], one["cohort"], one["decoding"]): one
                for method in results["methods"]
                for one in method["evaluations"]
            }
        )
    found = []
    for key in by_run[0]:
        if not all(key in one for one in by_run):
            continue
        method, cohort, decoding = key
        details = [_details(folder / run.folder, method, cohort, decoding) for run, _ in of_arm]
        per_note = [one.get("per_note", {}) for one in details]
        kinds = [kind for kind in per_note[0] if all(kind in one for one in per_note)]
        found.append(
            Measured(
                method,
                cohort,
                decoding,
                tuple(one[key] for one in by_run),
                {
                    (kind, criterion): np.array([one[kind][criterion] for one in per_note], dtype=np.int64)
                    for kind in kinds
                    for criterion in _CRITERIA
                },
                tuple(one["calibration"] for one in details if "calibration" in one),
            )
        )
    return found


def _details(run: Path, method: str, cohort: str, decoding: str) -> dict[str, Any]:
    """Counts of single notes, which everything here is made of. Raises ``ValueError`` where they are gone."""
    path = MethodFolder(run / "methods" / method.replace(":", "-")).details(cohort, decoding)
    found: dict[str, Any] | None = read_json(path)
    if found is None:
        raise ValueError(
            f"{path}: is not there, so {method} on {cohort} would be left out; put it back, or remove "
            f"{run} to run it again"
        )
    return found


def _scores(measured: Iterable[Measured], study: Study) -> Iterable[dict[str, Any]]:
    for one in measured:
        for (kind, criterion), cells in one.cells.items():
            rng = _rng(study, one.cohort, kind, criterion)
            per_seed = [record["scores"][kind][criterion] for record in one.records]
            interval = None
            if study.evaluation.bootstrap:
                interval = f1_interval_over_seeds([cells], rng=rng, num_resamples=study.evaluation.bootstrap)
            yield {
                "method": one.method,
                "cohort": one.cohort,
                "decoding": one.decoding,
                "kind": kind,
                "criterion": criterion,
                "f1": mean_f1(cells),
                "precision": mean(numbers["precision"] for numbers in per_seed),
                "recall": mean(numbers["recall"] for numbers in per_seed),
                "f1_by_seed": f1_by_seed(cells),
                "interval": None if interval is None else list(interval),
                "per_type": {
                    name: {
                        "f1": mean(numbers["per_type"][name]["f1"] for numbers in per_seed),
                        "num_gold": six["tp"] + six["fn"],
                    }
                    for name, six in per_seed[0]["per_type"].items()
                    if all(name in numbers["per_type"] for numbers in per_seed)
                },
            }


def _means(measured: Sequence[Measured], kinds: Mapping[str, str], study: Study) -> Iterable[dict[str, Any]]:
    for (decoding, kind, criterion, over), by_method in _tables(measured, kinds).items():
        for method, by_cohort in by_method.items():
            rng = _rng(study, over, kind, criterion) if study.evaluation.bootstrap else None
            found = mean_over_cohorts(by_cohort, rng=rng, num_resamples=study.evaluation.bootstrap or 1)
            yield {
                "method": method,
                "decoding": decoding,
                "kind": kind,
                "criterion": criterion,
                "over": over,
                **found,
            }


def _comparisons(
    measured: Sequence[Measured], kinds: Mapping[str, str], study: Study
) -> Iterable[dict[str, Any]]:
    """Pairs of methods that were read on the same cohorts; new sites: on each, at each number of notes."""
    if not study.evaluation.bootstrap:
        return
    for (decoding, kind, criterion, over), by_method in _tables(measured, kinds).items():
        if kind not in COMPARED:
            continue
        is_new = over == "new-site"
        groups: dict[tuple[str, ...], dict[str, list[Cells]]] = {}
        for method, by_cohort in by_method.items():
            names = sorted(by_cohort)
            head, _, tail = method.partition(":")
            for cohorts in [(name,) for name in names] if is_new else [tuple(names)]:
                # A new site is compared at equal numbers of notes: new_site:NAME:NUM:START.
                group = (*tail.split(":")[:2], *cohorts) if head == "new_site" else cohorts
                groups.setdefault(group, {})[method] = [by_cohort[cohort] for cohort in cohorts]
        for group, of_group in groups.items():
            if len(of_group) < 2:
                continue
            rng = _rng(study, over, kind, criterion)
            for found in compare_methods(
                of_group,
                rng=rng,
                num_resamples=study.evaluation.bootstrap,
            ):
                yield {
                    "decoding": decoding,
                    "kind": kind,
                    "criterion": criterion,
                    "over": f"cohort:{group[-1]}" if is_new else over,
                    **found,
                }


def _tables(
    measured: Sequence[Measured], kinds: Mapping[str, str]
) -> dict[tuple[str, str, str, str], dict[str, dict[str, Cells]]]:
    """(decoding, kind of item, criterion, kind of cohort) -> method -> cohort with gold -> its cells."""
    found: dict[tuple[str, str, str, str], dict[str, dict[str, Cells]]] = {}
    for one in measured:
        for (kind, criterion), cells in one.cells.items():
            # Without gold, F1 is 0 for a method with a false positive and undefined for the others, whose
            # means would then be over other cohorts than its own. Gold is the same for all methods.
            if not cells[..., (0, 2)].any():
                continue
            key = (one.decoding, kind, criterion, kinds[one.cohort])
            found.setdefault(key, {}).setdefault(one.method, {})[one.cohort] = cells
    return found


def _calibrations(measured: Iterable[Measured]) -> Iterable[dict[str, Any]]:
    """All seeds' predicted entities together: each seed is a draw of what the method gives."""
    for one in measured:
        if not one.calibration:
            continue
        confidence = np.concatenate([np.array(c["confidence"], np.float64) for c in one.calibration])
        right = np.concatenate([np.array(c["right"], bool) for c in one.calibration])
        num_gold = sum(c["num_gold"] for c in one.calibration)
        curve = precision_recall_curve(confidence, right, num_gold=num_gold)
        yield {
            "method": one.method,
            "cohort": one.cohort,
            "num_predictions": len(confidence),
            "ece": expected_calibration_error(confidence, right),
            "bins": [
                {
                    "low": b.low,
                    "high": b.high,
                    "num": b.num_mentions,
                    "mean_confidence": b.mean_confidence,
                    "share_right": b.share_right,
                }
                for b in reliability_bins(confidence, right)
            ],
            "average_precision": average_precision(confidence, right, num_gold=num_gold),
            "curve": [] if curve is None else _points(curve),
        }


def _points(curve: Any) -> list[dict[str, float]]:
    """At most ``NUM_POINTS`` points of the curve, the ends among them."""
    num = len(curve.thresholds)
    places = np.unique(np.linspace(0, num - 1, min(num, NUM_POINTS)).round().astype(int))
    return [
        {
            "threshold": float(curve.thresholds[i]),
            "precision": float(curve.precision[i]),
            "recall": float(curve.recall[i]),
        }
        for i in places
    ]


def _rng(study: Study, *what: str) -> np.random.Generator:
    """The same draws for every method, and for every arm: differences are of methods, not of draws."""
    digest = hashlib.sha256("/".join((str(study.seed), *what)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
