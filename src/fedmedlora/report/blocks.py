"""Building blocks of the page: sections, captioned tables in scroll boxes, figures with their data."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from fedmedlora.report.markup import Child, Markup, join, tag
from fedmedlora.report.svg import WIDTH, Panel


def name(text: str) -> Markup:
    """A user's name, isolated so that a right-to-left one cannot reorder what stands around it."""
    return tag("bdi", {}, text)


def section(ident: str, title: Child, *children: Child) -> Markup:
    """A part of the page that the list of contents leads to."""
    heading = tag("h2", {"id": f"{ident}-heading"}, title)
    return tag("section", {"id": ident, "aria-labelledby": f"{ident}-heading"}, heading, *children)


def paragraph(*children: Child) -> Markup:
    """Running text."""
    return tag("p", {}, *children)


def items(children: Sequence[Child], style: str = "") -> Markup:
    """A list."""
    attributes = {"class": style} if style else {}
    return tag("ul", attributes, *(tag("li", {}, child) for child in children))


def pairs(entries: Sequence[tuple[Child, Child]]) -> Markup:
    """Terms and what they are."""
    boxes = (tag("div", {}, tag("dt", {}, term), tag("dd", {}, value)) for term, value in entries)
    return tag("dl", {"class": "pairs"}, *boxes)


def fold(summary: Child, *children: Child) -> Markup:
    """Something that is opened by a click or the Enter key."""
    return tag("details", {}, tag("summary", {}, summary), *children)


def data_table(
    ident: str,
    caption: Child,
    columns: Sequence[Child],
    rows: Sequence[Sequence[Child]],
    *,
    groups: Sequence[tuple[Child, int]] = (),
    style: str = "numbers",
    num_words: int = 1,
    made: Child = "",
) -> Markup:
    """A table whose first column names the row. ``groups``: (name, columns) above all but the first.

    ``style``: numbers or prose. The first ``num_words`` columns of numbers hold words: they are aligned
    to the left, the others to the right. A table that is too wide scrolls inside its own box,
    with the keyboard too. ``made``: where it comes from, behind the caption.
    """

    def style_of(place: int) -> dict[str, str]:
        return {"class": "words"} if 0 < place < num_words else {}

    heads = [tag("th", {"scope": "col", **style_of(place)}, column) for place, column in enumerate(columns)]
    if groups:
        first = tag("th", {"scope": "col", "rowspan": 2}, columns[0])
        # A head without words names nothing: a reader of screens would announce it in vain.
        above = [
            tag("th", {"scope": "colgroup", "colspan": width}, title)
            if title
            else tag("td", {"colspan": width})
            for title, width in groups
        ]
        head = join((tag("tr", {}, first, *above), tag("tr", {}, *heads[1:])))
    else:
        head = tag("tr", {}, *heads)
    body = [
        tag(
            "tr",
            {},
            tag("th", {"scope": "row"}, row[0]),
            *(tag("td", style_of(place), cell) for place, cell in enumerate(row) if place),
        )
        for row in rows
    ]
    label = f"{ident}-caption"
    table = tag(
        "table",
        {"class": style},
        tag("caption", {}, tag("span", {"id": label}, caption), made),
        tag("thead", {}, head),
        tag("tbody", {}, *body),
    )
    box = {"class": "scroll", "role": "region", "tabindex": "0", "aria-labelledby": label}
    return tag("div", box, table)


def made_by(command: Sequence[str]) -> Markup:
    """The end of a caption: the command that makes what it stands under; nothing where that is not known."""
    if not command:
        return join(())
    return tag("span", {"class": "made"}, "Made by ", tag("code", {}, shlex.join(command)))


def figure(
    ident: str, caption: Child, panels: Sequence[Panel], legend: Sequence[tuple[Markup, Child]], data: Markup
) -> Markup:
    """Panels side by side, what their signs mean, and the same numbers as a table."""
    entries = [join((sign, tag("span", {}, words))) for sign, words in legend]
    box: dict[str, str | int | float] = {"class": "panels"}
    if any(panel.width > WIDTH for panel in panels):
        box |= {"class": "panels scroll", "role": "region", "tabindex": "0", "aria-label": panels[0].title}
    return tag(
        "figure",
        {"id": ident},
        tag("figcaption", {}, caption),
        items(entries, "legend") if entries else "",
        tag("div", box, *(panel.markup() for panel in panels)),
        fold("Numbers of this figure", data),
    )
