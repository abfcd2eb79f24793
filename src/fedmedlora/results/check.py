"""Whether something is what ``schema.py`` says: types and ranges, and what must agree.

Names are unique and refer to something, rounds count from 1, the weights of a round sum to 1, and F1,
precision and recall follow from the counts.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from fedmedlora.results.schema import (
    COHORT,
    EVALUATION,
    FORMAT,
    SCHEMA,
    VERSION,
    Many,
    Named,
    Node,
    Table,
    Value,
)

_LARGEST = 2**63  # whole numbers stay below it, so that any reader of JSON can hold them
_TOLERANCE = 1e-6  # of ratios and of the sum of weights: they may come from float32


def validate(results: Mapping[str, Any]) -> None:
    """Nothing if ``results`` follows the schema.

    Raises ValueError that begins with the path of the first wrong key, such as
    ``methods[1].evaluations[0].scores.entities.strict.tp``, and says what is there and what is allowed.
    """
    if not isinstance(results, Mapping):
        _refuse("results", results, "a table")
    if results.get("format") != FORMAT:
        _refuse("format", results.get("format"), f'"{FORMAT}": is this a results.json?')
    if results.get("version") != VERSION:
        _refuse("version", results.get("version"), f"{VERSION}; this fedmedlora reads no other version")
    _check(SCHEMA, results, "")
    _check_names(results)
    for m, method in enumerate(results["methods"]):
        for r, one in enumerate(method["rounds"]):
            _check_round(one, r + 1, f"methods[{m}].rounds[{r}]")
        for e, evaluation in enumerate(method["evaluations"]):
            _check_evaluation(evaluation, f"methods[{m}].evaluations[{e}]")


def check_cohort(found: Any, place: str) -> None:
    """Nothing if ``found`` is an entry of ``cohorts``. Raises ValueError that begins with ``place``."""
    _check(COHORT, found, place)


def check_evaluation(found: Any, place: str) -> None:
    """Nothing if ``found`` is an entry of ``evaluations``. Raises ValueError that begins with ``place``."""
    _check(EVALUATION, found, place)
    _check_evaluation(found, place)


def _check_evaluation(evaluation: Mapping[str, Any], place: str) -> None:
    if evaluation["num_unparsed"] > evaluation["num_examples"]:
        _refuse(f"{place}.num_unparsed", evaluation["num_unparsed"], "at most num_examples")
    for kind, score in evaluation["scores"].items():
        for criterion, numbers in (score or {}).items():
            _check_numbers(numbers, f"{place}.scores.{kind}.{criterion}")


def _check(node: Node, found: Any, place: str) -> None:
    if found is None and node.null:
        return
    if isinstance(node, Value):
        if not _fits(node, found):
            _refuse(place, found, node.words() + (f", or null ({node.null})" if node.null else ""))
    elif isinstance(node, Many):
        if not isinstance(found, list | tuple):
            _refuse(place, found, "a list" + (f", or null ({node.null})" if node.null else ""))
        if node.length and len(found) != node.length:
            _refuse(place, found, f"a list of {node.length}")
        for index, item in enumerate(found):
            _check(node.item, item, f"{place}[{index}]")
    else:
        if not isinstance(found, Mapping):
            _refuse(place, found, "a table" + (f", or null ({node.null})" if node.null else ""))
        _check_keys(node, found, place)


def _check_keys(node: Table | Named, found: Mapping[Any, Any], place: str) -> None:
    for key in found:
        if not isinstance(key, str):
            _refuse(place or "results", key, "keys that are text")
    if isinstance(node, Named):
        for key, item in found.items():
            _check(node.item, item, f"{place}.{key[:80]}")
        return
    for key in found:
        if key not in node.keys:
            near = difflib.get_close_matches(key, node.keys, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise ValueError(
                f"{_join(place, key[:80])}: unknown key{hint} Known here: {', '.join(node.keys)}"
            )
    for key, item in node.keys.items():
        if key not in found:
            raise ValueError(f"{_join(place, key)}: missing; every key must be there, null where allowed")
        _check(item, found[key], _join(place, key))


def _fits(node: Value, found: Any) -> bool:
    is_whole = isinstance(found, int) and not isinstance(found, bool) and abs(found) < _LARGEST
    is_number = is_whole or (isinstance(found, float) and math.isfinite(found))
    match node.kind:
        case "text":
            return isinstance(found, str) and (not node.choices or found in node.choices)
        case "flag":
            return isinstance(found, bool)
        case "count" | "positive":
            return is_whole and found >= (node.kind == "positive")
        case "number":
            return is_number
        case "seconds":
            return is_number and found >= 0
        case "share":
            return is_number and -_TOLERANCE <= found <= 1 + _TOLERANCE
        case "settings":
            return isinstance(found, Mapping) and _is_plain(found)


def _is_plain(found: Any) -> bool:
    if isinstance(found, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in found.items())
    if isinstance(found, list | tuple):
        return all(map(_is_plain, found))
    return (
        found is None or isinstance(found, str | int) or (isinstance(found, float) and math.isfinite(found))
    )


def _check_names(results: Mapping[str, Any]) -> None:
    cohorts = [cohort["name"] for cohort in results["cohorts"]]
    _check_unique(cohorts, "cohorts", "name")
    _check_unique([method["name"] for method in results["methods"]], "methods", "name")
    for m, method in enumerate(results["methods"]):
        place = f"methods[{m}].evaluations"
        for e, evaluation in enumerate(method["evaluations"]):
            if evaluation["cohort"] not in cohorts:
                _refuse(f"{place}[{e}].cohort", evaluation["cohort"], f"a name out of cohorts: {cohorts}")
        _check_unique([(e["cohort"], e["decoding"]) for e in method["evaluations"]], place, "cohort")


def _check_unique(names: Iterable[object], place: str, key: str) -> None:
    seen = set()
    for index, name in enumerate(names):
        if name in seen:
            _refuse(f"{place}[{index}].{key}", name, "something that occurs once; this is the second")
        seen.add(name)


def _check_round(one: Mapping[str, Any], round_num: int, place: str) -> None:
    if one["round_num"] != round_num:
        _refuse(f"{place}.round_num", one["round_num"], f"{round_num}: rounds count from 1 without a gap")
    sites = [site["site"] for site in one["sites"]]
    _check_unique(sites, f"{place}.sites", "site")
    for site in one["weights"]:
        if site not in sites:
            _refuse(f"{place}.weights.{site[:80]}", site, f"a site of this round: {sites}")
    total = math.fsum(one["weights"].values())
    if one["weights"] and abs(total - 1) > _TOLERANCE * 100:
        _refuse(f"{place}.weights", total, "weights whose sum is 1")


def _check_numbers(numbers: Mapping[str, Any], place: str) -> None:
    _check_ratios(numbers, place)
    for name, six in numbers["per_type"].items():
        _check_ratios(six, f"{place}.per_type.{name[:80]}")
    for key in ("tp", "fp", "fn"):
        total = sum(six[key] for six in numbers["per_type"].values())
        if numbers[key] != total:
            _refuse(f"{place}.{key}", numbers[key], f"the sum over per_type, {total}")
    interval = numbers["interval"]
    if interval is not None and interval[0] > interval[1]:
        _refuse(f"{place}.interval", list(interval), "low, then high")


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
            found is not None and expected is not None and abs(found - expected) > _TOLERANCE
        ):
            _refuse(f"{place}.{key}", found, f"{expected} (from tp={tp}, fp={fp}, fn={fn})")


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _refuse(place: str, found: object, allowed: str) -> NoReturn:
    shown = repr(found)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    raise ValueError(f"{place or 'results'}: {shown} is there; allowed: {allowed}")
