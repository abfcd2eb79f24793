"""The results of a study as the parts of the report ask for them: rows, scores, means, runs, signs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedmedlora.report.study.pieces import Sign
from fedmedlora.report.svg import NUM_STYLES
from fedmedlora.results.study_schema import MAIN, OVERS

Entry = Mapping[str, Any]

FAMILIES = ("Nothing trained", "Single site or centralized", "Federated", "Encoder", "New site")
CALLED: Mapping[str, str] = {
    "site": "training sites",
    "external": "external cohorts",
    "new-site": "new sites",
}
# The same method has the same hue and shape as in the report of a run; others take the rest in turn.
_FIRST = ("zero_shot", "fed_medlora", "fed_medlora_plus", "centralized")


@dataclass(frozen=True, slots=True)
class Row:
    """One method, read in one way. ``place``: its number among all methods, which gives its sign."""

    method: str
    decoding: str
    label: str
    place: int
    is_second: bool = False

    @property
    def style(self) -> int:
        """Hue, 0 to ``NUM_STYLES`` - 1."""
        return self.place % NUM_STYLES

    @property
    def shape(self) -> int:
        """Shape: methods of the same hue differ in it."""
        return (self.place + self.place // NUM_STYLES) % NUM_STYLES

    @property
    def dash(self) -> int:
        """A second way of reading the same method is dashed."""
        return 2 if self.is_second else 0

    @property
    def family(self) -> str:
        """Which of ``FAMILIES``."""
        return family_of(self.method)

    def sign(self, *, line: bool = False) -> Sign:
        """As the legend shows it."""
        return Sign(self.shape, f"k{self.style}", self.dash if line else None)


def family_of(method: str) -> str:
    """Which of ``FAMILIES`` a method belongs to, by its name."""
    if method in ("zero_shot", "few_shot", "endpoint"):
        return FAMILIES[0]
    if method == "centralized" or method.startswith("single_site:"):
        return FAMILIES[1]
    if method.startswith("encoder_"):
        return FAMILIES[3]
    return FAMILIES[4] if method.startswith("new_site:") else FAMILIES[2]


@dataclass(frozen=True, slots=True)
class StudyView:
    """``results`` that follow the schema, with what is looked up often put in order."""

    results: Entry
    arms: Mapping[str, Entry]
    _rows: Mapping[str, tuple[Row, ...]]
    _scores: Mapping[tuple[str, ...], Entry]
    _means: Mapping[tuple[str, ...], Entry]

    @property
    def seeds(self) -> Sequence[int]:
        """The seeds, in order."""
        found: Sequence[int] = self.results["seeds"]
        return found

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        """The seeds that the arm was run under, in the order of its runs."""
        return tuple(run["seed"] for run in self.results["runs"] if run["arm"] == arm)

    def num_seeds(self, arm: str) -> int:
        """How many seeds the arm was run under."""
        return len(self.seeds_of(arm))

    def rows(self, arm: str = MAIN, *, adapted: bool = False) -> tuple[Row, ...]:
        """The methods of an arm: those adapted to a new site, or all others."""
        return tuple(row for row in self._rows[arm] if (row.family == FAMILIES[4]) == adapted)

    def cohorts(self, arm: str = MAIN, kind: str = "") -> list[str]:
        """The names of an arm's cohorts, of one kind or all."""
        return [c["name"] for c in self.arms[arm]["cohorts"] if kind in ("", c["kind"])]

    def score(self, row: Row, cohort: str, kind: str, criterion: str, arm: str = MAIN) -> Entry | None:
        """A score on one cohort; None when it was not measured."""
        return self._scores.get((arm, row.method, row.decoding, kind, criterion, cohort))

    def mean(self, row: Row, over: str, kind: str, criterion: str, arm: str = MAIN) -> Entry | None:
        """A mean over the cohorts of a kind; None when it was not measured."""
        return self._means.get((arm, row.method, row.decoding, kind, criterion, over))

    def mean_under(
        self, seeds: Sequence[int], row: Row, over: str, kind: str, criterion: str
    ) -> Entry | None:
        """``mean`` of the study as it stands under ``seeds``; fewer than all have no interval."""
        entry, own = self.mean(row, over, kind, criterion), self.seeds_of(MAIN)
        if entry is None or set(seeds) == set(own):
            return entry
        values = [entry["f1_by_seed"][own.index(seed)] for seed in seeds]
        f1 = None if None in values else sum(values) / len(values)
        return {**entry, "f1": f1, "interval": None, "f1_by_seed": values}

    def overs(self, arm: str = MAIN) -> list[str]:
        """The kinds of cohorts that some method has a mean over."""
        found = {key[5] for key in self._means if key[0] == arm}
        return [over for over in OVERS if over in found]

    def records(self, arm: str, method: str) -> list[Entry]:
        """A method's record in each run of an arm, in the order of the seeds."""
        runs = sorted(
            (run for run in self.results["runs"] if run["arm"] == arm),
            key=lambda run: self.seeds.index(run["seed"]),
        )
        return [one for run in runs for one in run["methods"] if one["name"] == method]

    def label(self, method: str) -> str:
        """How a method is called, wherever it occurs."""
        rows = (row for rows in self._rows.values() for row in rows if row.method == method)
        found = next(rows, None)
        return found.label if found else method

    def command(self, arms: Iterable[str]) -> str:
        """The command that runs what a figure or table shows."""
        wanted = set(arms)
        names = ",".join(name for name in self.arms if name in wanted) or MAIN
        file = next((a for a in self.results["command"] if a.endswith(".toml")), "study.toml")
        return shlex.join(["fedmedlora", "run", file, "--arms", names, "--out", "RUN"])


def view_of(results: Entry) -> StudyView:
    """The view of ``results``, which follow the schema."""
    scores: dict[tuple[str, ...], Entry] = {
        (s["arm"], s["method"], s["decoding"], s["kind"], s["criterion"], s["cohort"]): s
        for s in results["scores"]
    }
    means: dict[tuple[str, ...], Entry] = {
        (m["arm"], m["method"], m["decoding"], m["kind"], m["criterion"], m["over"]): m
        for m in results["means"]
    }
    arms = {arm["name"]: arm for arm in results["arms"]}
    labels: dict[str, dict[str, str]] = {name: {} for name in arms}
    for run in results["runs"]:
        for method in run["methods"]:
            labels[run["arm"]].setdefault(method["name"], method["label"])
    order = [m for m in _FIRST if any(m in held for held in labels.values())]
    places = {method: _FIRST.index(method) for method in order}
    for held in labels.values():
        for method in held:
            if method not in places and family_of(method) != FAMILIES[4]:
                places[method] = len(_FIRST) + len(places) - len(order)
    decodings: dict[tuple[str, str], list[str]] = {}
    # Where nothing was scored, answers were read all the same, and some could not be.
    read = (
        (run["arm"], method["name"], one["decoding"])
        for run in results["runs"]
        for method in run["methods"]
        for one in method["evaluations"]
    )
    for arm, method, decoding, *_ in (*scores, *means, *read):
        known = decodings.setdefault((arm, method), [])
        if decoding not in known:
            known.append(decoding)
    rows = {}
    for arm, held in labels.items():
        found = []
        for method, label in held.items():
            ways = sorted(decodings.get((arm, method), [""]))
            for number, decoding in enumerate(ways):
                said = f"{label}, {decoding}" if len(ways) > 1 else label
                found.append(Row(method, decoding, said, places.get(method, 0), number > 0))
        rows[arm] = tuple(found)
    return StudyView(results, arms, rows, scores, means)


def by_family(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Rows that are drawn together: all of them, or per family where they are too many to tell apart."""
    if len(rows) <= NUM_STYLES:
        return [("", list(rows))] if rows else []
    found = [(family, [row for row in rows if row.family == family]) for family in FAMILIES]
    return [(family, held) for family, held in found if held]


def highest(values: Iterable[float | None]) -> float | None:
    """The best of a column: the highest value above 0, if there is one."""
    top = max((value for value in values if value is not None), default=None)
    return top if top else None
