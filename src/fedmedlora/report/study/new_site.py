"""A new site with few notes: F1 over the number of its notes, from each adapter that training starts at."""

from __future__ import annotations

from fedmedlora.report.blocks import paragraph
from fedmedlora.report.figures import Point
from fedmedlora.report.numbers import count_text
from fedmedlora.report.rows import CRITERIA, SCORE_TITLES
from fedmedlora.report.study.axis import axis_of, common_scale
from fedmedlora.report.study.pieces import (
    INTERVAL,
    Cell,
    Column,
    Name,
    Part,
    Sign,
    StudyFigure,
    StudyTable,
    Words,
    plain,
)
from fedmedlora.report.study.plots import Curve, curve_panel
from fedmedlora.report.study.points import cell_of, point_of, reach_of
from fedmedlora.report.study.slugs import slugs
from fedmedlora.report.study.view import Entry, Row, StudyView
from fedmedlora.results.study_schema import MAIN

_PLOTTED = ("entities", "modifiers_gold")
_SCRATCH = "zero_shot"

Adapted = tuple[str, str, int, Row]  # start, decoding, number of notes, the method that it gave


def new_site_part(view: StudyView) -> Part | None:
    """A figure per new site and kind of score; None when nothing was adapted.

    Of the arm that adapts there in the most ways: an arm of its own may do it instead of the study itself.
    """
    sites: dict[str, tuple[str, list[Adapted]]] = {}
    for arm in (MAIN, *(name for name in view.arms if name != MAIN)):
        for site, adapted in _adapted(view, arm).items() if arm in view.arms else ():
            if site not in sites or len(adapted) > len(sites[site][1]):
                sites[site] = arm, adapted
    idents = slugs(sites)
    figures = [
        figure
        for site, (arm, adapted) in sites.items()
        for kind in _PLOTTED
        if (figure := _figure(view, site, f"new-site-{idents[site]}", kind, adapted, arm))
    ]
    if not figures:
        return None
    told = paragraph(
        "A site that was no part of the training has annotated a few notes. An adapter is trained further on "
        "them, from what another method learned or from scratch, and is tested on other notes of the site. "
        "At 0 notes: the start itself."
    )
    return Part("new-site", "A new site", "New site", (told, *figures))


def _adapted(view: StudyView, arm: str) -> dict[str, list[Adapted]]:
    """By new site."""
    sites: dict[str, list[Adapted]] = {}
    for row in view.rows(arm, adapted=True):
        adaptation = next((r.get("adaptation") for r in view.records(arm, row.method)), None)
        if adaptation is not None:
            entry = (adaptation["start"], row.decoding, adaptation["num_notes"], row)
            sites.setdefault(adaptation["site"], []).append(entry)
    return sites


def _figure(
    view: StudyView, site: str, ident: str, kind: str, adapted: list[Adapted], arm: str
) -> StudyFigure | None:
    starts = {row.method: row for row in reversed(view.rows(arm))}
    lines: dict[tuple[str, str], dict[int, Row]] = {}
    for start, decoding, num_notes, row in adapted:
        held = lines.setdefault((start, decoding), {})
        if not held and start in starts:
            held[0] = Row(start, decoding, "", 0)
        held[num_notes] = row
    scores: dict[tuple[str, str], dict[tuple[int, str], Entry]] = {}
    for key, held in lines.items():
        scores[key] = {
            (num_notes, criterion): entry
            for num_notes, row in held.items()
            for criterion in CRITERIA
            if (entry := view.score(row, site, kind, criterion, arm))
        }
    nums = sorted({num_notes for held in scores.values() for num_notes, _ in held})
    if not nums:
        return None
    several = len({decoding for _, decoding in lines}) > 1
    ident = f"{ident}-{kind.replace('_', '-')}"
    marks_y = common_scale(reach_of(point_of(e) for found in scores.values() for e in found.values()))
    axis = axis_of(
        "notes of the new site that were trained on", map(float, nums), lambda n: count_text(int(n))
    )
    panels, legend = [], list[tuple[Sign | None, Words]]()
    for criterion in CRITERIA:
        curves = []
        for (start, decoding), found in scores.items():
            sign = starts[start] if start in starts else Row(start, decoding, start, 0)
            points: list[tuple[float, Point]] = []
            for num_notes in nums:
                point = point_of(found.get((num_notes, criterion)))
                points += [(float(num_notes), point)] if point else []
            words = _start_words(view, start, decoding if several else "")
            curves.append(Curve(plain(words), sign.style, sign.shape, tuple(points)))
            if criterion == CRITERIA[0]:
                legend.append((sign.sign(line=True), words))
        panels.append(curve_panel(f"{ident}-{criterion}", f"{criterion.title()} F1", curves, axis, marks_y))
    columns = [Column("Notes")]
    for start, decoding in scores:
        group: str | Name = Name(plain(_start_words(view, start, decoding if several else "")))
        columns += [Column(criterion.title(), group, INTERVAL) for criterion in CRITERIA]
    body = tuple(
        (
            Cell(num_notes, count_text(num_notes)),
            *(cell_of(found.get((num_notes, c))) for found in scores.values() for c in CRITERIA),
        )
        for num_notes in nums
    )
    caption: Words = (
        f"{SCORE_TITLES[kind]}: F1 at ",
        Name(site),
        " over the number of its notes that were trained on, one line per start, with 95% intervals.",
    )
    table = StudyTable(f"{ident}-data", caption, tuple(columns), body, (arm,))
    return StudyFigure(ident, caption, tuple(panels), tuple(legend), table, (arm,))


def _start_words(view: StudyView, start: str, decoding: str) -> Words:
    suffix = f", {decoding}" if decoding else ""
    return (f"from scratch{suffix}",) if start == _SCRATCH else ("from ", Name(view.label(start)), suffix)
