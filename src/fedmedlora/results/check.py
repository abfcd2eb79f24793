"""Whether something is what ``schema.py`` says: types and ranges, and what must agree.

Names are unique and refer to something, rounds count from 1, the weights of a round sum to 1, and F1,
precision and recall follow from the counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedmedlora.results.node_check import TOLERANCE, check, check_unique, refuse
from fedmedlora.results.schema import COHORT, EVALUATION, FORMAT, SCHEMA, VERSION


def validate(results: Mapping[str, Any]) -> None:
    """Nothing if ``results`` follows the schema.

    Raises ValueError that begins with the path of the first wrong key, such as
    ``methods[1].evaluations[0].scores.entities.strict.tp``, and says what is there and what is allowed.
    """
    if not isinstance(results, Mapping):
        refuse("results", results, "a table")
    if results.get("format") != FORMAT:
        refuse("format", results.get("format"), f'"{FORMAT}": is this a results.json?')
    if results.get("version") != VERSION:
        refuse("version", results.get("version"), f"{VERSION}; this fedmedlora reads no other version")
    check(SCHEMA, results, "")
    cohorts = [cohort["name"] for cohort in results["cohorts"]]
    check_unique(cohorts, "cohorts", "name")
    check_methods(results["methods"], cohorts, "methods")


def check_methods(methods: Sequence[Mapping[str, Any]], cohorts: Sequence[str], place: str) -> None:
    """Nothing if the entries of ``methods``, each of the right shape, agree with themselves and the cohorts.

    Raises ValueError that begins with ``place``.
    """
    check_unique([method["name"] for method in methods], place, "name")
    for m, method in enumerate(methods):
        below = f"{place}[{m}].evaluations"
        for e, evaluation in enumerate(method["evaluations"]):
            if evaluation["cohort"] not in cohorts:
                refuse(f"{below}[{e}].cohort", evaluation["cohort"], f"a name out of cohorts: {cohorts}")
        check_unique([(e["cohort"], e["decoding"]) for e in method["evaluations"]], below, "cohort")
        for r, one in enumerate(method["rounds"]):
            _check_round(one, r + 1, f"{place}[{m}].rounds[{r}]")
        for e, evaluation in enumerate(method["evaluations"]):
            _check_evaluation(evaluation, f"{below}[{e}]")


def check_cohort(found: Any, place: str) -> None:
    """Nothing if ``found`` is an entry of ``cohorts``. Raises ValueError that begins with ``place``."""
    check(COHORT, found, place)


def check_evaluation(found: Any, place: str) -> None:
    """Nothing if ``found`` is an entry of ``evaluations``. Raises ValueError that begins with ``place``."""
    check(EVALUATION, found, place)
    _check_evaluation(found, place)


def _check_evaluation(evaluation: Mapping[str, Any], place: str) -> None:
    if evaluation["num_unparsed"] > evaluation["num_examples"]:
        refuse(f"{place}.num_unparsed", evaluation["num_unparsed"], "at most num_examples")
    for kind, score in evaluation["scores"].items():
        for criterion, numbers in (score or {}).items():
            _check_numbers(numbers, f"{place}.scores.{kind}.{criterion}")


def _check_round(one: Mapping[str, Any], round_num: int, place: str) -> None:
    if one["round_num"] != round_num:
        refuse(f"{place}.round_num", one["round_num"], f"{round_num}: rounds count from 1 without a gap")
    sites = [site["site"] for site in one["sites"]]
    check_unique(sites, f"{place}.sites", "site")
    for site in one["weights"]:
        if site not in sites:
            refuse(f"{place}.weights.{site[:80]}", site, f"a site of this round: {sites}")
    total = math.fsum(one["weights"].values())
    if one["weights"] and abs(total - 1) > TOLERANCE * 100:
        refuse(f"{place}.weights", total, "weights whose sum is 1")


def _check_numbers(numbers: Mapping[str, Any], place: str) -> None:
    _check_ratios(numbers, place)
    for name, six in numbers["per_type"].items():
        _check_ratios(six, f"{place}.per_type.{name[:80]}")
    for key in ("tp", "fp", "fn"):
        total = sum(six[key] for six in numbers["per_type"].values())
        if numbers[key] != total:
            refuse(f"{place}.{key}", numbers[key], f"the sum over per_type, {total}")
    interval = numbers["interval"]
    if interval is not None and interval[0] > interval[1]:
        refuse(f"{place}.interval", list(interval), "low, then high")


def _check_ratios(six: Mapping[str, Any], place: str) -> None:
    tp, fp, fn = six["tp"], six["fp"], six["fn"]
    for key, part, whole in (
        ("precision", tp, tp + fp),
        ("recall", tp, tp + fn),
        ("f1", 2 * tp, 2 * tp + fp + fn),
    ):
        expected = part / whole if whole else None
        found = six[key]
        if (found is None) != (expected is None) or (
            found is not None and expected is not None and abs(found - expected) > TOLERANCE
        ):
            refuse(f"{place}.{key}", found, f"{expected} (from tp={tp}, fp={fp}, fn={fn})")
