"""Example predictions with their spans highlighted, from synthetic cohorts only.

A report is passed around; a real note's text must not be in it. So an example of a cohort that is not
synthetic is refused, whatever the caller says, and no error here holds a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedmedlora.report.blocks import items, name, paragraph, section
from fedmedlora.report.markup import Child, Markup, escape, tag

LabelledSpan = tuple[str, int, int]  # type, start, end: characters of the example's text, [start, end)

# How a predicted or gold span compares with the other side, in words and as a sign.
_VERDICTS: Mapping[str, tuple[str, str]] = {
    "exact": ("✓", "exact: also on the other line, same boundaries and type"),
    "partial": ("≈", "partial: same type on the other line, other boundaries"),
    "extra": ("+", "extra: predicted, not in the gold"),
    "missed": ("−", "missed: in the gold, not predicted"),
}
_HUES = ("problem", "treatment", "drug", "test")


def examples_section(examples: Sequence[Mapping[str, Any]], results: Mapping[str, Any]) -> Markup:
    """One card per example: gold above, predicted below.

    An example: ``{"cohort", "synthetic": True, "text", "gold": [(type, start, end)], "predicted": [...]}``
    and, if wanted, ``"method"``, a label to show. Raises ValueError for an example that does not say that
    it is synthetic, that belongs to a cohort which ``results`` do not call synthetic, or whose spans lie
    outside its text.
    """
    cards = []
    for place, example in enumerate(examples):
        _check(example, place, {cohort["name"]: cohort["synthetic"] for cohort in results["cohorts"]})
        cards.append(_card(example, place))
    legend: list[Child] = [
        tag("span", {}, tag("b", {}, sign), f" {words}") for sign, words in _VERDICTS.values()
    ]
    return section(
        "examples",
        "Example predictions",
        paragraph("From synthetic cohorts only: no text of a real note is in this page."),
        items(legend, "legend"),
        *cards,
    )


def _check(example: Mapping[str, Any], place: int, synthetic: Mapping[str, bool]) -> None:
    cohort = example["cohort"]
    if example["synthetic"] is not True or synthetic.get(cohort) is not True:
        raise ValueError(
            f"examples[{place}]: cohort {cohort!r} is not synthetic in the results; the text of a real note "
            "never goes into a report. Give examples of synthetic cohorts, or none"
        )
    for key in ("gold", "predicted"):
        for label, start, end in example[key]:
            if not 0 <= start < end <= len(example["text"]):
                raise ValueError(
                    f"examples[{place}].{key}: {label!r} at [{start}, {end}) lies outside the text of "
                    f"{len(example['text'])} characters; offsets are characters, [start, end)"
                )


def _card(example: Mapping[str, Any], place: int) -> Markup:
    gold = [_span(span) for span in example["gold"]]
    predicted = [_span(span) for span in example["predicted"]]
    found = sum(1 for span in set(gold) if span in predicted)
    method: Child = name(example["method"]) if example.get("method") else ""
    heading = f"example-{place}"
    return tag(
        "article",
        {"class": "card example", "aria-labelledby": heading},
        tag(
            "h3",
            {"id": heading},
            f"Example {place + 1}: ",
            name(example["cohort"]),
            *((" · ", method) if method else ()),
        ),
        tag("p", {"class": "side"}, "Gold"),
        tag("p", {"class": "note"}, highlight(example["text"], gold, predicted, "missed")),
        tag("p", {"class": "side"}, "Predicted"),
        tag("p", {"class": "note"}, highlight(example["text"], predicted, gold, "extra")),
        tag("p", {"class": "tally"}, f"{found} of {len(set(gold))} gold spans found exactly."),
    )


def highlight(text: str, spans: Sequence[LabelledSpan], others: Sequence[LabelledSpan], alone: str) -> Markup:
    """``text`` with ``spans`` marked. ``alone``: the verdict on a span that ``others`` have no part of.

    Nested spans are drawn inside each other. Where two cross, the later one is drawn in two parts, its
    name on the last.
    """
    pending = sorted(set(spans), key=lambda span: (span[1], -span[2], span[0]))
    return Markup(_marked(text, 0, len(text), pending, others, alone))


def _marked(
    text: str,
    start: int,
    end: int,
    spans: Sequence[LabelledSpan],
    others: Sequence[LabelledSpan],
    alone: str,
    broken: frozenset[LabelledSpan] = frozenset(),
) -> str:
    """``text[start:end]``; every span begins inside it, in the order of their beginnings."""
    parts, position, waiting = [], start, list(spans)
    while waiting:
        span = waiting.pop(0)
        _, first, last = span
        inside = [other for other in waiting if other[1] < last]
        waiting = [other for other in waiting if other[1] >= last]
        whole = []
        for other in inside:
            if other[2] > last:  # crossing: the rest of it comes after this span
                waiting.append((other[0], last, other[2]))
                whole.append((other[0], other[1], last))
                broken |= {whole[-1]}
            else:
                whole.append(other)
        waiting.sort(key=lambda one: (one[1], -one[2], one[0]))
        parts.append(escape(text[position:first], layout=True))
        inner = Markup(_marked(text, first, last, whole, others, alone, broken))
        is_named = span not in broken
        parts.append(_mark(span, inner, _verdict(span, others, alone), is_named).source)
        position = last
    parts.append(escape(text[position:end], layout=True))
    return "".join(parts)


def _mark(span: LabelledSpan, inner: Markup, verdict: str, is_named: bool) -> Markup:
    sign, _ = _VERDICTS[verdict]
    hue = span[0] if span[0] in _HUES else "modifier"
    label: tuple[Child, ...] = (tag("small", {}, f"{span[0]} {sign}"),) if is_named else ()
    return tag("mark", {"class": f"t-{hue} v-{verdict}"}, inner, *label)


def _verdict(span: LabelledSpan, others: Sequence[LabelledSpan], alone: str) -> str:
    if span in others:
        return "exact"
    label, start, end = span
    shares = any(other[0] == label and other[1] < end and start < other[2] for other in others)
    return "partial" if shares else alone


def _span(span: Sequence[Any]) -> LabelledSpan:
    return str(span[0]), int(span[1]), int(span[2])
