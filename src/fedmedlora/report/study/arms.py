"""One part per group of arms: mean F1 of each method over what the arms change, or a table of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fedmedlora.report.blocks import paragraph
from fedmedlora.report.numbers import count_text
from fedmedlora.report.record_section import flat
from fedmedlora.report.rows import SCORE_TITLES
from fedmedlora.report.study.axis import axis_of, common_scale
from fedmedlora.report.study.pieces import (
    INTERVAL,
    Cell,
    Column,
    Name,
    Part,
    Piece,
    StudyFigure,
    StudyTable,
    named,
    word,
)
from fedmedlora.report.study.plots import Curve, curve_panel
from fedmedlora.report.study.points import cell_of, legend_of, point_of, reach_of
from fedmedlora.report.study.slugs import slugs
from fedmedlora.report.study.view import CALLED, FAMILIES, Entry, Row, StudyView, by_family
from fedmedlora.report.svg import Panel
from fedmedlora.results.study_schema import MAIN

# What a group is judged by: kind of score and criterion, as in the summary.
JUDGED = (("entities", "strict"), ("modifiers_gold", "lenient"))
_MAIN_WORDS = "the study as it stands"
_FEWER = (
    " It is shown a second time under the seeds of these arms alone, which is what they compare with; that "
    "line has no intervals, which are made over all the seeds of an arm at once."
)


def arm_parts(view: StudyView) -> list[Part]:
    """A part for each group that is named, in the order of the study."""
    groups: dict[str, list[str]] = {}
    for name, arm in view.arms.items():
        if arm["group"] and name != MAIN:
            groups.setdefault(arm["group"], []).append(name)
    parts: list[Part] = []
    idents = slugs(groups)
    for group, arms in groups.items():
        ident = f"arms-{idents[group]}"
        pieces = _pieces(view, ident, arms)
        if pieces:
            told = paragraph(
                "Mean F1 over cohorts and seeds; everything that an arm does not name is as in the study "
                f"as it stands, which figures call “{MAIN}”.",
                _FEWER if _seeds_beside(view, arms) != view.seeds_of(MAIN) else "",
            )
            parts.append(Part(f"group-{idents[group]}", Name(group), Name(group), (told, *pieces)))
    return parts


def _pieces(view: StudyView, ident: str, arms: Sequence[str]) -> list[Piece]:
    found: list[Piece] = []
    for kind, criterion in JUDGED:
        rows = _rows(view, arms, kind, criterion)
        if rows:
            found.append(_piece(view, f"{ident}-{kind.replace('_', '-')}", arms, rows, kind, criterion))
    return found


def _rows(view: StudyView, arms: Sequence[str], kind: str, criterion: str) -> list[Row]:
    """Methods that some arm of the group measured, in the order of the study.

    Where the study as it stands has none of them, its own federated methods stand beside them, for them to be
    compared with something.
    """
    rows: dict[tuple[str, str], Row] = {}
    for row in (row for arm in (MAIN, *arms) for row in view.rows(arm)):
        rows.setdefault((row.method, row.decoding), row)

    def measured(row: Row, among: Sequence[str]) -> bool:
        return any(view.mean(row, over, kind, criterion, arm) for arm in among for over in view.overs(arm))

    found = [row for row in rows.values() if measured(row, arms)]
    held = {row.method for row in view.rows() if measured(row, (MAIN,))}  # however it is read
    if found and not any(row.method in held for row in found):
        own = [row for row in view.rows() if row.family == FAMILIES[2] and measured(row, (MAIN,))]
        found = [*own, *found]
    return found


def _piece(
    view: StudyView, ident: str, arms: Sequence[str], rows: Sequence[Row], kind: str, criterion: str
) -> Piece:
    every, seeds = (MAIN, *arms), _seeds_beside(view, arms)
    overs = list(dict.fromkeys(over for arm in arms for over in view.overs(arm)))
    score = f"{SCORE_TITLES[kind]}: {criterion} F1"
    table = _table(view, ident, arms, seeds, rows, overs, kind, criterion)
    on_axis = [arm for arm in arms if view.arms[arm]["x"] is not None]
    if not on_axis:
        return table
    label = next((view.arms[arm]["x_label"] for arm in on_axis if view.arms[arm]["x_label"]), "x")
    axis = axis_of(label, (float(view.arms[arm]["x"]) for arm in on_axis))
    asides = {
        (row, over): point_of(view.mean_under(seeds, row, over, kind, criterion))
        for row in rows
        for over in overs
    }
    points = [
        point_of(view.mean(row, over, kind, criterion, arm))
        for row in rows
        for over in overs
        for arm in every
    ]
    marks_y = common_scale(reach_of([*points, *asides.values()]))
    panels: list[Panel] = []
    for over in overs:
        for family, held in by_family(rows):
            curves = []
            for row in held:
                drawn = []
                for arm in on_axis:
                    point = point_of(view.mean(row, over, kind, criterion, arm))
                    drawn += [(float(view.arms[arm]["x"]), point)] if point else []
                aside = asides[row, over]
                curves.append(Curve(row.label, row.style, row.shape, tuple(drawn), row.dash, aside))
            title = f"{CALLED[over].capitalize()}{f': {family}' if family else ''}"
            panels.append(curve_panel(f"{ident}-{len(panels)}", title, curves, axis, marks_y, aside=MAIN))
    caption = (f"{score}, mean over the cohorts of a kind, over ", Name(label), ", with 95% intervals.")
    legend = (*legend_of(rows, line=True), (None, (f"hollow, at the left: {_main_words(view, seeds)}",)))
    data = replace(table, ident=f"{ident}-data")
    return StudyFigure(ident, caption, tuple(panels), legend, data, every)


def _table(
    view: StudyView,
    ident: str,
    arms: Sequence[str],
    seeds: Sequence[int],
    rows: Sequence[Row],
    overs: Sequence[str],
    kind: str,
    criterion: str,
) -> StudyTable:
    """``seeds``: see ``_seeds_beside``; where they are not all of the study's, a line of them is added."""
    every = (MAIN, *arms)
    tells_seeds = len({view.seeds_of(arm) for arm in every}) > 1
    columns = [Column("Arm"), Column("Sites"), *([Column("Seeds")] if tells_seeds else [])]
    columns += [
        Column(Name(row.label), f"Mean of {CALLED[over]}", INTERVAL) for over in overs for row in rows
    ]
    label = next((view.arms[arm]["x_label"] for arm in every if view.arms[arm]["x_label"]), "")
    if label:
        columns.insert(1, Column(Name(label)))
    places = [(row, over) for over in overs for row in rows]

    def line(title: Cell, arm: str, num_seeds: int, means: Iterable[Entry | None]) -> tuple[Cell, ...]:
        x, sites = view.arms[arm]["x"], view.arms[arm]["num_sites"]
        cells = [title, *([Cell(x, "" if x is None else f"{x:g}")] if label else [])]
        cells.append(Cell(sites, count_text(sites)))
        if tells_seeds:
            cells.append(Cell(num_seeds, count_text(num_seeds)))
        return (*cells, *map(cell_of, means))

    body = []
    for arm in every:
        means = [view.mean(row, over, kind, criterion, arm) for row, over in places]
        if arm == MAIN and not any(means):  # it has none of these methods, and no federated ones either
            continue
        body.append(line(named(view.arms[arm]["title"] or arm), arm, view.num_seeds(arm), means))
        if arm == MAIN and seeds != view.seeds_of(MAIN):
            means = [view.mean_under(seeds, row, over, kind, criterion) for row, over in places]
            body.append(line(word(_main_words(view, seeds)), MAIN, len(seeds), means))
    caption = (f"{SCORE_TITLES[kind]}: {criterion} F1 of each arm, mean over the cohorts of a kind.",)
    return StudyTable(ident, caption, tuple(columns), tuple(body), every)


def _seeds_beside(view: StudyView, arms: Sequence[str]) -> tuple[int, ...]:
    """The seeds under which the study as it stands is fairly set beside ``arms``: theirs, where all have the
    same and it has been run under them too, and otherwise its own."""
    own, theirs = view.seeds_of(MAIN), {view.seeds_of(arm) for arm in arms}
    seeds = next(iter(theirs))
    return seeds if len(theirs) == 1 and set(seeds) <= set(own) else own


def _main_words(view: StudyView, seeds: Sequence[int]) -> str:
    own = view.seeds_of(MAIN)
    if tuple(seeds) == own:
        return _MAIN_WORDS
    return f"{_MAIN_WORDS}, under seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))} alone"


def arms_table(view: StudyView) -> StudyTable:
    """Every arm with what it changes."""
    columns = tuple(map(Column, ("Arm", "Title", "Group", "Seeds", "Sites", "Changes")))
    body = tuple(
        (
            named(name),
            named(arm["title"]),
            named(arm["group"]),
            Cell(view.num_seeds(name), count_text(view.num_seeds(name))),
            Cell(arm["num_sites"], count_text(arm["num_sites"])),
            word(_changes(arm["changes"])),
        )
        for name, arm in view.arms.items()
    )
    caption = ("Arms, and the settings that each changes.",)
    return StudyTable("arms", caption, columns, body, tuple(view.arms), is_prose=True)


def _changes(changes: object) -> str:
    return "; ".join(f"{key} = {value}" for key, value in flat(changes)) or "nothing"
