"""The top of the page: what was run, which method is best where, in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fedmedlora.report.blocks import data_table, fold, items, name, paragraph, section
from fedmedlora.report.interval_note import interval_note
from fedmedlora.report.markup import Child, Markup, join, tag
from fedmedlora.report.numbers import (
    NOT_MEASURED,
    UNDEFINED,
    bytes_text,
    count_text,
    interval_text,
    plural,
    share_text,
)
from fedmedlora.report.rows import ANSWERS, KINDS, Row, best, has_answers, score_rows
from fedmedlora.report.svg import swatch

# What the headline looks at: kind of score, criterion, words, and words for a card.
_EXTRACTED = (
    ("entities", "strict", "Entities, strict F1", "Entities, strict"),
    ("modifiers_gold", "lenient", "Modifiers, lenient F1", "Modifiers, lenient"),
)
_ANSWERED = ((ANSWERS, "", "Answers", "Answers"),)


def headlines(results: Mapping[str, Any]) -> tuple[tuple[str, str, str, str], ...]:
    """What counts most in such a study."""
    return _ANSWERED if has_answers(results) else _EXTRACTED


def summary_section(results: Mapping[str, Any]) -> Markup:
    """What was run and what came out of it."""
    rows = score_rows(results)
    cards = [_card(cohort, rows, headlines(results)) for cohort in results["cohorts"]]
    shown = [
        won.score(cohort["name"], kind, criterion)
        for cohort in results["cohorts"]
        for kind, criterion, _, _ in headlines(results)
        for won in best(rows, cohort["name"], kind, criterion)
    ]
    note = interval_note(results, shown, "records" if has_answers(results) else "notes")
    return section(
        "summary",
        "Summary",
        paragraph(*_what_was_run(results)),
        notice(results["cohorts"]),
        items(_findings(results, rows), "findings"),
        tag("h3", {}, "Best method on each cohort"),
        paragraph(
            "The share of answers that are right, or their mean F1, by the metric of each cohort."
            if has_answers(results)
            else "Entities by strict F1 (same boundaries and type); modifiers by lenient F1 (same type, at "
            "least one shared character), asked for with the gold entities.",
            " In brackets: 95% interval." if any(one and one["interval"] for one in shown) else "",
        ),
        tag("div", {"class": "cards"}, *cards),
        paragraph(note) if note else "",
    )


def cohorts_section(results: Mapping[str, Any]) -> Markup:
    """The sources of notes, and how many."""
    what = "records" if has_answers(results) else "notes"
    columns = ["Cohort", "Role", f"{what.title()} are", f"Train {what}", "Train examples", f"Test {what}"]
    columns += [] if has_answers(results) else ["Test sentences"]
    rows: list[list[Child]] = []
    annotated: list[list[Child]] = []
    for cohort in results["cohorts"]:
        keys = ("num_train_notes", "num_train_examples", "num_test_notes", "num_test_sentences")
        numbers = [count_text(cohort[key]) for key in keys[: len(columns) - 3]]
        rows.append([name(cohort["name"]), KINDS[cohort["kind"]], _nature(cohort), *numbers])
        found = cohort["annotates"]
        annotated.append(
            [
                name(cohort["name"]),
                ", ".join(found["entities"]) or "nothing",
                ", ".join(found["pairs"]) or "nothing",
            ]
        )
    annotates: Child = ""
    if not has_answers(results):
        annotates = fold(
            "What each source annotates",
            data_table(
                "cohorts-annotated",
                "What each source annotates at all. Only this is asked for, trained and scored.",
                ["Cohort", "Entity types", "Modifiers, by entity type"],
                annotated,
                style="prose",
            ),
        )
    return section(
        "cohorts",
        "Cohorts",
        data_table(
            "cohorts-size", f"Where the {what} come from, and how many there are.", columns, rows, num_words=3
        ),
        annotates,
    )


def _what_was_run(results: Mapping[str, Any]) -> list[Child]:
    methods, cohorts, model = results["methods"], results["cohorts"], results["model"]
    kinds = Counter(cohort["kind"] for cohort in cohorts)
    words = [plural(kinds["site"], KINDS["site"])] if kinds["site"] else []
    words += [f"{kinds['external']} external"] if kinds["external"] else []
    words += [plural(kinds["new-site"], KINDS["new-site"])] if kinds["new-site"] else []
    rounds = max((len(method["rounds"]) for method in methods), default=0)
    share = model["adapter_parameters"] / model["num_parameters"] if model["num_parameters"] else 0.0
    return [
        f"{plural(len(methods), 'method')} on {plural(len(cohorts), 'cohort')}"
        f"{' (' + ', '.join(words) + ')' if words else ''}, {plural(rounds, 'round')} of training. "
        "The base model ",
        name(model["name"]),
        f" has {millions(model['num_parameters'])} parameters and stays frozen; what is trained, and what "
        f"travels, is an adapter of {millions(model['adapter_parameters'])} ({100 * share:.1f}%).",
    ]


def notice(cohorts: Sequence[Mapping[str, Any]]) -> Child:
    """What must be said first where notes were written by a program; "" where none were."""
    made = [cohort["name"] for cohort in cohorts if cohort["synthetic"]]
    if not made:
        return ""
    if len(made) == len(cohorts):
        text = (
            "All cohorts are synthetic: their notes were written by a program. The scores show that the "
            "machinery works; they say nothing about real notes."
        )
    else:
        text = (
            f"{len(made)} of {len(cohorts)} cohorts are synthetic (written by a program): "
            f"{', '.join(made)}. Their scores say nothing about real notes."
        )
    return tag("p", {"class": "notice"}, text)


def _findings(results: Mapping[str, Any], rows: Sequence[Row]) -> list[Child]:
    found: list[Child] = []
    cohorts = [cohort["name"] for cohort in results["cohorts"]]
    for kind, criterion, title, _ in headlines(results):
        found.append(join((tag("strong", {}, f"{title}. "), *_wins(rows, cohorts, kind, criterion))))
    traffic = [
        site["upload_bytes"]
        for method in results["methods"]
        for one in method["rounds"]
        for site in one["sites"]
        if site["upload_bytes"]
    ]
    if traffic:
        text = f"A site sends {bytes_text(max(traffic))} in each round: its adapter, and no note."
        found.append(join((tag("strong", {}, "Traffic. "), text)))
    return found


def _wins(rows: Sequence[Row], cohorts: Sequence[str], kind: str, criterion: str) -> list[Child]:
    """Who is best how often, how sure that is, and how far from where nothing was trained."""
    winners = {cohort: best(rows, cohort, kind, criterion) for cohort in cohorts}
    counted = Counter(row.label for won in winners.values() for row in won)
    measured = sum(1 for won in winners.values() if won)
    if not counted:
        known = any(row.f1(cohort, kind, criterion) is not None for row in rows for cohort in cohorts)
        return ["No method found anything right." if known else "Not measured."]
    said: list[Child] = ["Best: "]
    for place, (label, times) in enumerate(counted.most_common()):
        of = "" if place else f" of {plural(measured, 'cohort')}"
        said += [", " if place else "", name(label), f" on {times}{of}"]
    ties = sum(1 for won in winners.values() if len(won) > 1)
    of_them = f"{'all' if ties == measured else ties} of them"
    said.append(f" (methods that tie all count, which they do on {of_them}). " if ties else ". ")
    close = sum(1 for cohort in cohorts if _is_close(rows, cohort, kind, criterion))
    if close:
        said.append(
            f"On {'all' if close == measured else close} of them the 95% interval of another method overlaps "
            "the best one's, so the order there may be chance. "
        )
    bare = sum(1 for cohort in cohorts if _is_bare(rows, cohort, kind, criterion))
    if bare:
        said.append(
            f"On {'all' if bare == measured else bare} of them the best one has no interval to tell its lead "
            "from chance. "
        )
    gains = [gain for cohort in cohorts if (gain := _gain(rows, cohort, kind, criterion)) is not None]
    if gains:
        low, high = f"{min(gains):+.2f}", f"{max(gains):+.2f}"
        said.append(f"Best against zero-shot: {low if low == high else f'{low} to {high}'}.")
    return said


def _is_close(rows: Sequence[Row], cohort: str, kind: str, criterion: str) -> bool:
    """Whether some other method's interval reaches into that of the best one."""
    won = best(rows, cohort, kind, criterion)
    if not won:
        return False
    top = won[0].score(cohort, kind, criterion)
    others = [row.score(cohort, kind, criterion) for row in rows if row is not won[0]]
    return bool(top and top["interval"]) and any(
        other and other["interval"] and top and other["interval"][1] >= top["interval"][0] for other in others
    )


def _is_bare(rows: Sequence[Row], cohort: str, kind: str, criterion: str) -> bool:
    """Whether one method alone is best, and its score has no interval."""
    won = best(rows, cohort, kind, criterion)
    numbers = won[0].score(cohort, kind, criterion) if len(won) == 1 else None
    return bool(numbers and numbers["interval"] is None)


def _gain(rows: Sequence[Row], cohort: str, kind: str, criterion: str) -> float | None:
    """Best F1 less the best of zero-shot; None where either was not measured."""
    before = [row.f1(cohort, kind, criterion) for row in rows if row.name == "zero_shot"]
    known = [f1 for f1 in before if f1 is not None]
    won = best(rows, cohort, kind, criterion)
    top = won[0].f1(cohort, kind, criterion) if won else None
    return (
        None if top is None or not known or all(row.name == "zero_shot" for row in rows) else top - max(known)
    )


def _card(
    cohort: Mapping[str, Any], rows: Sequence[Row], measures: Sequence[tuple[str, str, str, str]]
) -> Markup:
    parts = []
    for kind, criterion, _, title in measures:
        won = best(rows, cohort["name"], kind, criterion)
        parts.append(tag("dt", {}, title))
        parts.append(tag("dd", {}, *_winner(won, cohort["name"], kind, criterion, rows)))
    return tag(
        "article",
        {"class": "card"},
        tag("h4", {}, name(cohort["name"])),
        tag(
            "p",
            {"class": "chips"},
            *(tag("span", {"class": "chip"}, text) for text in (KINDS[cohort["kind"]], _nature(cohort))),
        ),
        tag("dl", {}, *parts),
    )


def _winner(won: Sequence[Row], cohort: str, kind: str, criterion: str, rows: Sequence[Row]) -> list[Child]:
    if not won:
        is_measured = any(row.score(cohort, kind, criterion) for row in rows)
        if any(row.f1(cohort, kind, criterion) is not None for row in rows):
            return [tag("span", {"class": "winner"}, "0.00 by every method")]
        return [tag("span", {"class": "winner"}, UNDEFINED if is_measured else NOT_MEASURED)]
    numbers = won[0].score(cohort, kind, criterion) or {}
    interval = interval_text(numbers["interval"])
    names: list[Child] = []
    for row in won:
        names += [tag("span", {"class": "winner"}, swatch(row.style), name(row.label))]
    gain = _gain(rows, cohort, kind, criterion)
    after = [tag("span", {"class": "gain"}, f"{gain:+.2f} vs. zero-shot")] if gain is not None else []
    if won[0].name == "zero_shot":
        after = []
    value = tag("span", {"class": "big"}, share_text(numbers["f1"], 2))
    return [value, tag("span", {"class": "interval"}, f"({interval})") if interval else "", *names, *after]


def _nature(cohort: Mapping[str, Any]) -> str:
    return "synthetic" if cohort["synthetic"] else "real"


def millions(count: int) -> str:
    """``4.9 million``."""
    return f"{count / 1e6:.1f} million" if count >= 1e6 else count_text(count)
