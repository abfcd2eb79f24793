"""How the answers were read: what could not be parsed or grounded, and what an endpoint was asked."""

from __future__ import annotations

from fedmedlora.report.blocks import paragraph
from fedmedlora.report.numbers import NOT_MEASURED, count_text, plural
from fedmedlora.report.study.pieces import Cell, Column, Name, Part, StudyTable, Words, named, word
from fedmedlora.report.study.slugs import slugs
from fedmedlora.report.study.view import Entry, StudyView
from fedmedlora.results.study_schema import MAIN


def reading_part(view: StudyView) -> Part | None:
    """Per arm: answers with a part that could not be read, and mentions that their sentence does not hold."""
    tables = [table for arm in view.arms if (table := _table(view, arm))]
    if not tables:
        return None
    told = paragraph(
        "Unparsed: answers with a part that could not be read. Ungrounded: mentions that answers name and "
        "that their sentence does not hold; they are dropped. What a method did not say because of it is "
        "missing from its recall; a dropped mention is no false positive, so its precision does not show it. "
        "All cohorts and seeds together."
    )
    return Part("reading", "Answers that could not be used", "Unused answers", (told, *tables))


def _table(view: StudyView, arm: str) -> StudyTable | None:
    body = []
    for row in (*view.rows(arm), *view.rows(arm, adapted=True)):
        found = [
            e
            for record in view.records(arm, row.method)
            for e in record["evaluations"]
            if e["decoding"] == row.decoding
        ]
        if not found:
            continue
        num, unparsed = (sum(e[key] for e in found) for key in ("num_examples", "num_unparsed"))
        counted = [e["num_ungrounded"] for e in found if e["num_ungrounded"] is not None]
        ungrounded = sum(counted) if counted else None
        body.append(
            (
                named(row.label),
                word(row.decoding),
                Cell(num, count_text(num)),
                Cell(unparsed, count_text(unparsed)),
                Cell(unparsed / num if num else None, f"{100 * unparsed / num:.1f}%" if num else "n/a"),
                Cell(ungrounded, NOT_MEASURED if ungrounded is None else count_text(ungrounded)),
            )
        )
    if not body:
        return None
    titles = ("Method", "Decoding", "Answers", "Unparsed", "Share unparsed", "Ungrounded")
    title = Name(view.arms[arm]["title"] or arm)
    caption: Words = (title, ": answers that could not be used.")
    fold: Words = () if arm == MAIN else (title, f": {plural(len(body), 'method')}")
    ident = f"reading-{slugs(view.arms)[arm]}"
    return StudyTable(ident, caption, tuple(map(Column, titles)), tuple(body), (arm,), fold, 2)


def usage_part(view: StudyView) -> Part | None:
    """Requests, tokens and price of every method that asked an endpoint; None when none did."""
    body, arms = [], list[str]()
    for arm in view.arms:
        for row in view.rows(arm):
            usages = [u for r in view.records(arm, row.method) if (u := r.get("usage"))]
            if usages and not row.is_second:
                body.append(_usage(view, arm, row.label, usages))
                arms.append(arm)
    if not body:
        return None
    titles = ("Arm", "Method", "Requests", "Failed", "Retries", "Prompt tokens", "Completion tokens")
    columns = (*map(Column, titles), Column("Cost", "", ("currency",)))
    caption = ("What was asked of a model behind an endpoint, all seeds together.",)
    table = StudyTable("usage", caption, columns, tuple(body), tuple(arms), num_words=2)
    told = paragraph(
        "The model behind an endpoint is somebody else's: prompts with the text of notes went there, and it "
        "may change without notice."
    )
    return Part("usage", "Endpoint", "Endpoint", (told, table))


def _usage(view: StudyView, arm: str, label: str, usages: list[Entry]) -> tuple[Cell, ...]:
    keys = ("num_requests", "num_failed", "num_retries", "prompt_tokens", "completion_tokens")
    totals = [sum(u[key] for u in usages) for key in keys]
    costs = [u["cost"] for u in usages if u["cost"] is not None]
    currencies = ", ".join(dict.fromkeys(u["currency"] for u in usages if u["cost"] is not None))
    cost = sum(costs) if len(costs) == len(usages) and ", " not in currencies else None
    price = (
        Cell(None, "not priced", (None,))
        if cost is None
        else Cell(cost, f"{cost:,.2f} {currencies}", (currencies,))
    )
    return (named(_title(view, arm)), named(label), *(Cell(n, count_text(n)) for n in totals), price)


def _title(view: StudyView, arm: str) -> str:
    title: str = view.arms[arm]["title"]
    return title or arm
