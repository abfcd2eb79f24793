"""Whether something is what ``study_schema.py`` says: types and ranges, and what must agree.

Everything refers to an arm, a method and a cohort that are there, nothing is said twice, a mean over the
seeds follows from the seeds, and a calibration's bins hold all of its predictions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fedmedlora.results.check import check_methods
from fedmedlora.results.node_check import TOLERANCE, check, check_unique, refuse
from fedmedlora.results.study_schema import COHORT_PREFIX, FORMAT, MAIN, OVERS, SCHEMA, VERSION

_SCORE_KEYS = ("arm", "method", "cohort", "decoding", "kind", "criterion")
_MEAN_KEYS = ("arm", "method", "decoding", "kind", "criterion", "over")
_COMPARISON_KEYS = ("arm", "decoding", "kind", "criterion", "over", "a", "b")
_CALIBRATION_KEYS = ("arm", "method", "cohort")


def validate_study(results: Mapping[str, Any]) -> None:
    """Nothing if ``results`` follows the schema.

    Raises ValueError that begins with the path of the first wrong key, such as
    ``runs[2].methods[1].rounds[0].weights``, and says what is there and what is allowed.
    """
    if not isinstance(results, Mapping):
        refuse("results", results, "a table")
    if results.get("format") != FORMAT:
        refuse("format", results.get("format"), f'"{FORMAT}": is this the results file of a whole study?')
    if results.get("version") != VERSION:
        refuse("version", results.get("version"), f"{VERSION}; this fedmedlora reads no other version")
    check(SCHEMA, results, "")
    cohorts = _check_arms(results)
    methods = _check_runs(results, cohorts)
    for key, unique in (
        ("scores", _SCORE_KEYS),
        ("means", _MEAN_KEYS),
        ("comparisons", _COMPARISON_KEYS),
        ("calibration", _CALIBRATION_KEYS),
    ):
        for place, entry in enumerate(results[key]):
            _check_refers(entry, f"{key}[{place}]", cohorts, methods)
        check_unique([tuple(entry[k] for k in unique) for entry in results[key]], key, "arm")
    num_seeds = Counter(run["arm"] for run in results["runs"])
    for place, score in enumerate(results["scores"]):
        _check_mean(score, num_seeds[score["arm"]], f"scores[{place}]")
    for place, mean in enumerate(results["means"]):
        _check_mean(mean, num_seeds[mean["arm"]], f"means[{place}]")
        if (mean["worst_f1"] is None) != (mean["worst_cohort"] is None):
            refuse(f"means[{place}].worst_cohort", mean["worst_cohort"], "null exactly where worst_f1 is")
    for place, comparison in enumerate(results["comparisons"]):
        _check_comparison(comparison, f"comparisons[{place}]")
    for place, calibration in enumerate(results["calibration"]):
        _check_calibration(calibration, f"calibration[{place}]")


def _check_arms(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names of the cohorts of each arm."""
    if not results["seeds"]:
        refuse("seeds", results["seeds"], "at least one seed")
    check_unique(results["seeds"], "seeds", "seed")
    check_unique([arm["name"] for arm in results["arms"]], "arms", "name")
    found = {}
    for place, arm in enumerate(results["arms"]):
        names = [cohort["name"] for cohort in arm["cohorts"]]
        check_unique(names, f"arms[{place}].cohorts", "name")
        found[arm["name"]] = names
    if MAIN not in found:
        refuse("arms", list(found), f'a list with the arm "{MAIN}", the study as it stands')
    return found


def _check_runs(results: Mapping[str, Any], cohorts: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    """The names of the methods of each arm, over its runs."""
    found: dict[str, set[str]] = {arm: set() for arm in cohorts}
    for place, run in enumerate(results["runs"]):
        if run["arm"] not in cohorts:
            refuse(f"runs[{place}].arm", run["arm"], f"a name out of arms: {list(cohorts)}")
        if run["seed"] not in results["seeds"]:
            refuse(f"runs[{place}].seed", run["seed"], f"one of seeds: {list(results['seeds'])}")
        check_methods(run["methods"], cohorts[run["arm"]], f"runs[{place}].methods")
        found[run["arm"]] |= {method["name"] for method in run["methods"]}
    check_unique([(run["arm"], run["seed"]) for run in results["runs"]], "runs", "seed")
    return found


def _check_refers(
    entry: Mapping[str, Any],
    place: str,
    cohorts: Mapping[str, Sequence[str]],
    methods: Mapping[str, set[str]],
) -> None:
    arm = entry["arm"]
    if arm not in cohorts:
        refuse(f"{place}.arm", arm, f"a name out of arms: {list(cohorts)}")
    for key in ("method", "a", "b"):
        if key in entry and entry[key] not in methods[arm]:
            known = ", ".join(sorted(methods[arm])) or "it has none"
            refuse(f"{place}.{key}", entry[key], f"a method of the runs of this arm: {known}")
    for key in ("cohort", "worst_cohort"):
        if entry.get(key) is not None and entry[key] not in cohorts[arm]:
            refuse(f"{place}.{key}", entry[key], f"a cohort of this arm: {cohorts[arm]}")
    over = entry.get("over", OVERS[0])
    if over not in OVERS and over.removeprefix(COHORT_PREFIX) not in cohorts[arm]:
        refuse(f"{place}.over", over, f"{', '.join(OVERS)}, or {COHORT_PREFIX} and a cohort of this arm")


def _check_mean(entry: Mapping[str, Any], num_seeds: int, place: str) -> None:
    by_seed = entry["f1_by_seed"]
    if len(by_seed) != num_seeds:
        refuse(f"{place}.f1_by_seed", by_seed, f"{num_seeds} values, one per seed")
    expected = None if None in by_seed else math.fsum(by_seed) / len(by_seed)
    found = entry["f1"]
    if (found is None) != (expected is None) or (
        found is not None and expected is not None and abs(found - expected) > TOLERANCE
    ):
        refuse(f"{place}.f1", found, f"{expected}, the mean of f1_by_seed, null where one of them is")
    _check_interval(entry["interval"], found, place)


def _check_interval(interval: Sequence[float] | None, of: float | None, place: str) -> None:
    if interval is None:
        return
    if of is None:
        refuse(f"{place}.interval", list(interval), "null where its value is null")
    if interval[0] > interval[1]:
        refuse(f"{place}.interval", list(interval), "low, then high")


def _check_comparison(comparison: Mapping[str, Any], place: str) -> None:
    if comparison["a"] == comparison["b"]:
        refuse(f"{place}.b", comparison["b"], "another method than a")
    difference, p, p_holm = (comparison[key] for key in ("difference", "p", "p_holm"))
    if difference is not None and abs(difference) > 1 + TOLERANCE:
        refuse(f"{place}.difference", difference, "a number from -1 to 1")
    _check_interval(comparison["interval"], difference, place)
    if (p is None) != (p_holm is None) or (p is not None and p_holm < p - TOLERANCE):
        refuse(f"{place}.p_holm", p_holm, f"at least p, which is {p}, and null exactly where that is")
    if comparison["significant"] and p_holm is None:
        refuse(f"{place}.significant", True, "false where nothing was tested")


def _check_calibration(calibration: Mapping[str, Any], place: str) -> None:
    total, last = 0, 0.0
    for index, one in enumerate(calibration["bins"]):
        below = f"{place}.bins[{index}]"
        if one["low"] < last - TOLERANCE or one["high"] < one["low"]:
            refuse(f"{below}.low", one["low"], f"at least {last}, and at most high: bins are in order")
        for key in ("mean_confidence", "share_right"):
            if (one[key] is None) != (one["num"] == 0):
                refuse(f"{below}.{key}", one[key], "null exactly where num is 0")
        total, last = total + one["num"], one["high"]
    if total != calibration["num_predictions"]:
        refuse(f"{place}.num_predictions", calibration["num_predictions"], f"{total}, the sum over bins")
