"""The rows that every table and figure shows: one per method and way of decoding, in the study's order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedmedlora.report.svg import NUM_STYLES

SCORE_TITLES: Mapping[str, str] = {
    "entities": "Entities",
    "modifiers_gold": "Modifiers, given the gold entities",
    "links_gold": "Links, given the gold entities",
    "modifiers_end_to_end": "Modifiers, end to end",
    "links_end_to_end": "Links, end to end",
}
ANSWERS = "answers"  # a kind of one score, whatever the criterion: of instruction data
CRITERIA = ("strict", "lenient")
KINDS: Mapping[str, str] = {"site": "training site", "external": "external", "new-site": "new site"}

# The same method has the same hue and shape in every report; others take the rest in turn.
_STYLES: Mapping[str, int] = {"zero_shot": 0, "fed_medlora": 1, "fed_medlora_plus": 2, "centralized": 3}


@dataclass(frozen=True, slots=True)
class Row:
    """``style``: hue and shape, 0 to ``NUM_STYLES`` - 1. ``evaluations``: by cohort."""

    label: str
    name: str
    style: int
    evaluations: Mapping[str, Mapping[str, Any]]

    def score(self, cohort: str, kind: str, criterion: str) -> Mapping[str, Any] | None:
        """The numbers of one score; None when it was not measured."""
        evaluation = self.evaluations.get(cohort)
        if kind == ANSWERS:
            told = evaluation and evaluation["answers"]
            return {"f1": told["score"], "interval": told["interval"]} if told else None
        score = evaluation and evaluation["scores"][kind]
        return score[criterion] if score else None

    def f1(self, cohort: str, kind: str, criterion: str) -> float | None:
        """Micro-F1; None when it was not measured or is undefined."""
        numbers = self.score(cohort, kind, criterion)
        return None if numbers is None else numbers["f1"]


def method_styles(results: Mapping[str, Any]) -> dict[str, int]:
    """Style of each method, by its name."""
    free = [style for style in range(NUM_STYLES) if style not in _STYLES.values()]
    others = [method["name"] for method in results["methods"] if method["name"] not in _STYLES]
    return dict(_STYLES) | {name: free[place % len(free)] for place, name in enumerate(others)}


def score_rows(results: Mapping[str, Any]) -> tuple[Row, ...]:
    """Every method with every way it was decoded; a method without evaluations has one empty row."""
    styles = method_styles(results)
    found = []
    for method in results["methods"]:
        decodings = list(dict.fromkeys(e["decoding"] for e in method["evaluations"])) or [""]
        for decoding in decodings:
            suffix = f", {decoding}" if len(decodings) > 1 else ""
            chosen = {e["cohort"]: e for e in method["evaluations"] if e["decoding"] == decoding}
            found.append(Row(method["label"] + suffix, method["name"], styles[method["name"]], chosen))
    return tuple(found)


def validated_s(rounds: Iterable[Mapping[str, Any]]) -> float | None:
    """Seconds that the coordinator measured the sites' adapters for, before it weighed them: 0 for a rule
    that needs nothing of the kind; None where a round does not tell (results of an older version)."""
    listed = list(rounds)
    if any("validate_seconds" not in one for one in listed):
        return None
    return float(sum(one["validate_seconds"] or 0.0 for one in listed))


def has_answers(results: Mapping[str, Any]) -> bool:
    """Whether the study is one of instruction data."""
    return any(e["answers"] for method in results["methods"] for e in method["evaluations"])


def best(rows: Sequence[Row], cohort: str, kind: str, criterion: str) -> tuple[Row, ...]:
    """The rows with the highest F1, several when they tie; none when nothing was measured or found."""
    known = [(row.f1(cohort, kind, criterion), row) for row in rows]
    top = max((f1 for f1, _ in known if f1 is not None), default=None)
    return tuple(row for f1, row in known if f1 is not None and f1 == top and f1 > 0)
