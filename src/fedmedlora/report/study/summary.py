"""The top of the page: what was compared, which method is best, and whether that is more than chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fedmedlora.report.blocks import items, name, paragraph
from fedmedlora.report.markup import Child, Markup, join, tag
from fedmedlora.report.numbers import interval_text, plural, share_text
from fedmedlora.report.rows import KINDS
from fedmedlora.report.study.arms import JUDGED
from fedmedlora.report.study.differences import difference_text, p_text
from fedmedlora.report.study.pieces import Part
from fedmedlora.report.study.view import CALLED, FAMILIES, Entry, Row, StudyView
from fedmedlora.report.summary import millions, notice
from fedmedlora.results.study_schema import COHORT_PREFIX, MAIN

_TITLES = {"entities": "Entities", "modifiers_gold": "Modifiers, given the gold entities"}
_FEW_SEEDS = 5


def summary_part(view: StudyView) -> Part:
    """Sentences; there is always something to say."""
    found = [
        finding
        for kind, criterion in JUDGED
        for over in view.overs()
        if (finding := _finding(view, kind, criterion, over))
    ]
    return Part(
        "summary",
        "Summary",
        "Summary",
        (
            paragraph(*_what_was_run(view)),
            join([notice(view.arms[MAIN]["cohorts"])]),
            items(found or ["No score was measured."], "findings"),
            paragraph(*_how_sure(view)),
        ),
    )


def _what_was_run(view: StudyView) -> list[Child]:
    results = view.results
    methods = {row.method for arm in view.arms for row in view.rows(arm)}
    kinds = Counter(cohort["kind"] for cohort in view.arms[MAIN]["cohorts"])
    cohorts = [
        f"{kinds[kind]} {word}" if kind == "external" else plural(kinds[kind], word)
        for kind, word in KINDS.items()
        if kinds[kind]
    ]
    words: list[Child] = [
        f"{plural(len(methods), 'method')} on {plural(kinds.total(), 'cohort')}"
        f"{' (' + ', '.join(cohorts) + ')' if cohorts else ''}, "
        f"{plural(len(view.seeds), 'seed')} ({', '.join(map(str, view.seeds))}), "
        f"{plural(len(results['runs']), 'run')}. "
    ]
    others = [arm["title"] or arm["name"] for arm in view.arms.values() if arm["name"] != MAIN]
    if others:
        words.append(f"Beside the study as it stands, {plural(len(others), 'arm')} change it: ")
        for place, title in enumerate(others):
            words += ["; " if place else "", name(title)]
        words.append(". ")
    model = results["model"]
    words += [
        "The base model ",
        name(model["name"]),
        f" has {millions(model['num_parameters'])} parameters; an adapter has "
        f"{millions(model['adapter_parameters'])}.",
    ]
    return words


def _finding(view: StudyView, kind: str, criterion: str, over: str) -> Markup | None:
    """The best methods of one score on one kind of cohorts, and the tests of the best federated one."""
    ranked = sorted(
        (
            (row, mean)
            for row in view.rows()
            if (mean := view.mean(row, over, kind, criterion)) and mean["f1"] is not None
        ),
        key=lambda one: -one[1]["f1"],
    )
    if not ranked:
        return None
    said: list[Child] = [tag("strong", {}, f"{_TITLES[kind]}, {criterion} F1, {CALLED[over]}. ")]
    best, mean = ranked[0]
    if mean["f1"] == 0:
        return join((*said, "No method found anything right."))
    said += ["Best: ", name(best.label), f" {_value(mean)}"]
    said.append(f", mean of {plural(mean['num_cohorts'], 'cohort')}" if mean["num_cohorts"] > 1 else "")
    federated = [(row, mean) for row, mean in ranked if row.family == FAMILIES[2]]
    subject = federated[0][0] if federated else best
    if federated and subject != best:
        said += ["; best of the federated methods: ", name(subject.label), f" {_value(federated[0][1])}"]
    said.append(". ")
    return join((*said, *_tests(view, subject, [row for row, _ in ranked], kind, criterion, over)))


def _tests(
    view: StudyView, subject: Row, ranked: Sequence[Row], kind: str, criterion: str, over: str
) -> list[Child]:
    """``subject`` against the best other method and the best of each kind of baseline."""
    against = [row for row in ranked if row != subject][:1]
    for wanted in ("centralized", "single_site:", "zero_shot"):
        found = [row for row in ranked if row.method.startswith(wanted) and row != subject]
        against += [row for row in found[:1] if row not in against]
    said: list[Child] = []
    untested: list[Child] = []
    for other in against:
        tested = _tested(view, subject, other, kind, criterion, over)
        if tested is None:
            untested += [", " if untested else "", name(other.label)]
        else:
            said += [name(subject.label), " against ", name(other.label), f": {tested}. "]
    if untested:
        said += [name(subject.label), " was not tested against ", *untested, "."]
    return said


def _value(mean: Entry) -> str:
    interval = interval_text(mean["interval"])
    return share_text(mean["f1"]) + (f" ({interval})" if interval else "")


def _tested(view: StudyView, first: Row, other: Row, kind: str, criterion: str, over: str) -> str | None:
    """What the test of two methods says, whichever of them it names first; None without one."""
    cohorts = view.cohorts(kind=over)
    # The mean over one cohort is its F1, and new sites are compared one by one.
    overs = (over, COHORT_PREFIX + cohorts[0]) if len(cohorts) == 1 else (over,)
    found = next(
        (
            c
            for c in view.results["comparisons"]
            if c["arm"] == MAIN
            and {c["a"], c["b"]} == {first.method, other.method}
            and (c["kind"], c["criterion"]) == (kind, criterion)
            and c["over"] in overs
            and c["decoding"] == first.decoding == other.decoding
        ),
        None,
    )
    if found is None or found["difference"] is None or found["p_holm"] is None:
        return None
    sign = 1 if found["a"] == first.method else -1
    ends = sorted(sign * end for end in found["interval"] or ())
    interval = f" ({difference_text(ends[0], 2)} to {difference_text(ends[1], 2)})" if ends else ""
    holds = "significant" if found["significant"] else "not significant, it may be chance"
    p = p_text(found["p_holm"])
    return f"{difference_text(sign * found['difference'])}{interval}, {holds} (Holm p {_equals(p)})"


def _equals(text: str) -> str:
    return text if text.startswith("<") else f"= {text}"


def _how_sure(view: StudyView) -> list[Child]:
    num_seeds = len(view.seeds)
    chance = (
        "There is one seed: intervals hold the chance of which notes were tested on, not that of training. "
        if num_seeds == 1
        else "In brackets: 95% intervals by bootstrap over seeds and notes. "
        + (
            f"{num_seeds} seeds are few: how much training itself varies is known roughly only. "
            if num_seeds < _FEW_SEEDS
            else ""
        )
    )
    return [
        chance,
        "Whether a difference is significant was tested over notes, for these trained models; other seeds "
        "give others. ",
        "Which method is called best was seen on these same notes, so its lead is a little too large.",
    ]
