"""Method against method: the difference in F1, its interval, its p value and Holm's correction."""

from __future__ import annotations

from fedmedlora.report.blocks import paragraph
from fedmedlora.report.numbers import NOT_MEASURED, UNDEFINED
from fedmedlora.report.rows import SCORE_TITLES
from fedmedlora.report.study.pieces import INTERVAL, Cell, Column, Name, Part, StudyTable, named, word
from fedmedlora.report.study.slugs import slugs
from fedmedlora.report.study.view import CALLED, Entry, StudyView
from fedmedlora.results.study_schema import COHORT_PREFIX, MAIN

SIGNIFICANT, NOT_SIGNIFICANT, NOT_TESTED = "significant", "not significant", "not tested"


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
    """All comparisons: those of the main arm per kind of score, then those of each other arm."""
    tables = []
    for arm in view.arms:
        found = [c for c in view.results["comparisons"] if c["arm"] == arm]
        if arm != MAIN:
            tables += [_table(view, arm, "", found)] if found else []
            continue
        for kind in SCORE_TITLES:
            chosen = [c for c in found if c["kind"] == kind]
            tables += [_table(view, arm, kind, chosen)] if chosen else []
    if not tables:
        return None
    told = paragraph(
        "F1 of the first method less that of the second, on the same notes and seeds. p: two-sided, by "
        "bootstrap over seeds and notes. Holm: p after Holm's correction for the number of comparisons that "
        "were made together; “significant” stands where it is below the study's level. A difference that "
        "is not significant may still be there: the study is then too small to tell."
    )
    return Part("differences", "Differences between methods", "Differences", (told, *tables))


def _table(view: StudyView, arm: str, kind: str, found: list[Entry]) -> StudyTable:
    decodings = {c["decoding"] for c in found}
    columns = [
        Column("First"),
        Column("Second"),
        Column("On"),
        *([] if kind else [Column("Score")]),
        Column("Criterion"),
        *([Column("Decoding")] if len(decodings) > 1 else []),
        Column("Difference", "", INTERVAL),
        Column("p"),
        Column("Holm p"),
        Column("Verdict"),
    ]
    body = []
    for c in found:
        low, high = c["interval"] or (None, None)
        small = "" if low is None else f"{difference_text(low, 2)} to {difference_text(high, 2)}"
        said = verdict(c)
        over = c["over"]
        on = CALLED.get(over) or over.removeprefix(COHORT_PREFIX)
        body.append(
            (
                named(view.label(c["a"])),
                named(view.label(c["b"])),
                word(f"mean of {on}") if over in CALLED else named(on),
                *([] if kind else [word(SCORE_TITLES[c["kind"]])]),
                word(c["criterion"]),
                *([word(c["decoding"])] if len(decodings) > 1 else []),
                Cell(c["difference"], difference_text(c["difference"]), (low, high), small),
                Cell(c["p"], p_text(c["p"])),
                Cell(c["p_holm"], p_text(c["p_holm"])),
                Cell(said, said, is_best=said == SIGNIFICANT),
            )
        )
    num_words = len(columns) - 4
    if kind:
        caption: tuple[str | Name, ...] = (f"{SCORE_TITLES[kind]}: differences in F1, with their tests.",)
        ident, fold = f"differences-{kind.replace('_', '-')}", ()
        words: tuple[str | Name, ...] = (f"{SCORE_TITLES[kind]}: {len(found)} comparisons",)
        return StudyTable(
            ident,
            caption,
            tuple(columns),
            tuple(body),
            (arm,),
            fold if kind == "entities" else words,
            num_words,
        )
    title = Name(view.arms[arm]["title"])
    caption = (title, ": differences in F1, with their tests.")
    ident = f"differences-arm-{slugs(view.arms)[arm]}"
    words = (title, f": {len(found)} comparisons")
    return StudyTable(ident, caption, tuple(columns), tuple(body), (arm,), words, num_words)
