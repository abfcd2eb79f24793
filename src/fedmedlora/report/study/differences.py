"""Method against method: the difference in F1, its interval, its p value and Holm's correction."""

from __future__ import annotations

from fedmedlora.report.blocks import paragraph
from fedmedlora.report.numbers import NOT_MEASURED, UNDEFINED, plural
from fedmedlora.report.rows import SCORE_TITLES
from fedmedlora.report.study.pieces import INTERVAL, Cell, Column, Name, Part, StudyTable, Words, named, word
from fedmedlora.report.study.slugs import slugs
from fedmedlora.report.study.view import CALLED, Entry, StudyView
from fedmedlora.results.study_schema import COHORT_PREFIX, MAIN

_OPEN = "entities"  # the table that is not folded
SIGNIFICANT, NOT_SIGNIFICANT, NOT_TESTED = "significant", "not significant", "not tested"


def turned(comparison: Entry) -> Entry:
    """The same comparison with the two methods the other way round."""
    difference, interval = comparison["difference"], comparison["interval"]
    return {
        **comparison,
        "a": comparison["b"],
        "b": comparison["a"],
        "difference": None if difference is None else -difference,
        "interval": None if interval is None else [-interval[1], -interval[0]],
    }


def told_of(comparison: Entry | None) -> str:
    """``+0.12 significant``."""
    if comparison is None:
        return NOT_MEASURED
    return f"{difference_text(comparison['difference'], 2)} {verdict(comparison)}"


def verdict(comparison: Entry) -> str:
    """What the test says, in a word."""
    if comparison["p_holm"] is None:
        return NOT_TESTED
    return SIGNIFICANT if comparison["significant"] else NOT_SIGNIFICANT


def difference_text(difference: float | None, digits: int = 3) -> str:
    """``+0.120`` or ``−0.034``; 0 has no sign."""
    if difference is None:
        return UNDEFINED
    rounded = round(difference, digits)
    return f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"


def p_text(p: float | None) -> str:
    """``0.034``; below a thousandth only that it is."""
    return NOT_TESTED if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def differences_part(view: StudyView) -> Part | None:
    """All comparisons: of the main arm per kind of score, means first, then those of each other arm."""
    tables = []
    for arm, entry in view.arms.items():
        found = [c for c in view.results["comparisons"] if c["arm"] == arm]
        if arm != MAIN and found:
            title = Name(entry["title"] or arm)
            tables.append(_table(view, f"arm-{slugs(view.arms)[arm]}", (title,), arm, found))
        for kind, words in SCORE_TITLES.items() if arm == MAIN else ():
            for over, where in (("", "means over cohorts"), (COHORT_PREFIX, "each cohort alone")):
                of_kind = [c for c in found if c["kind"] == kind]
                chosen = [c for c in of_kind if c["over"].startswith(COHORT_PREFIX) == bool(over)]
                ident = f"{kind.replace('_', '-')}{'-cohorts' if over else ''}"
                if chosen:
                    tables.append(_table(view, ident, (f"{words}, {where}",), arm, chosen))
    if not tables:
        return None
    told = paragraph(
        "F1 of the first method less that of the second, on the same notes and seeds; small numbers are its "
        "95% interval by bootstrap over seeds and notes. p: two-sided, by a paired permutation test over "
        "notes. It is about these trained models and does not know that other seeds give others, which the "
        "interval does: a method is better where the difference is significant and the interval leaves out "
        "0. Holm: p after Holm's correction over all pairs of methods of one arm that were compared by the "
        "same score on the same cohorts; “significant” stands where it is below 0.05. A difference that is "
        "not significant may still be there: the study is then too small to tell."
    )
    return Part("differences", "Differences between methods", "Differences", (told, *tables))


def _table(view: StudyView, ident: str, title: Words, arm: str, found: list[Entry]) -> StudyTable:
    kinds, decodings = ({c[key] for c in found} for key in ("kind", "decoding"))
    columns = [
        Column("First"),
        Column("Second"),
        Column("On"),
        *([Column("Score")] if len(kinds) > 1 else []),
        Column("Criterion"),
        *([Column("Decoding")] if len(decodings) > 1 else []),
        Column("Difference", "", INTERVAL),
        Column("Verdict"),
        Column("p"),
        Column("Holm p"),
    ]
    body = []
    for c in found:
        low, high = c["interval"] or (None, None)
        small = "" if low is None else f"{difference_text(low, 2)} to {difference_text(high, 2)}"
        said, over = verdict(c), c["over"]
        on = word(f"mean of {CALLED[over]}") if over in CALLED else named(over.removeprefix(COHORT_PREFIX))
        body.append(
            (
                named(view.label(c["a"])),
                named(view.label(c["b"])),
                on,
                *([word(SCORE_TITLES[c["kind"]])] if len(kinds) > 1 else []),
                word(c["criterion"]),
                *([word(c["decoding"])] if len(decodings) > 1 else []),
                Cell(c["difference"], difference_text(c["difference"]), (low, high), small),
                Cell(said, said, is_best=said == SIGNIFICANT),
                Cell(c["p"], p_text(c["p"])),
                Cell(c["p_holm"], p_text(c["p_holm"])),
            )
        )
    return StudyTable(
        f"differences-{ident}",
        (*title, ": differences in F1, with their tests."),
        tuple(columns),
        tuple(body),
        (arm,),
        () if ident == _OPEN else (*title, f": {plural(len(found), 'comparison')}"),
        num_words=len(columns) - 4,
    )
