"""A figure of the report as an SVG file that stands alone: its own styles, light and dark, no script."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from fedmedlora.report.markup import Child, Markup, join, tag, visible
from fedmedlora.report.shell import style
from fedmedlora.report.study.pieces import Sign, StudyFigure, Words, plain
from fedmedlora.report.svg import Panel, mark, path, words

_MARGIN, _GAP, _MOST_COLUMNS, _NARROWEST = 22.0, 28.0, 3, 560.0
_OWN_STYLE = (
    'svg { background: var(--surface); font-family: system-ui, "Segoe UI", Roboto, "Liberation Sans", Arial, '
    "sans-serif; }\n.sheet { fill: var(--surface); }\n.caption { fill: var(--ink); font-size: 15px; "
    "font-weight: 650; }\n.said { fill: var(--quiet); font-size: 12.5px; }\n.made { fill: var(--quiet); "
    "font-size: 11px; font-family: ui-monospace, Menlo, Consolas, monospace; }\n"
)


def picture_text(figure: StudyFigure, command: str) -> str:
    """The whole file. ``command`` makes the runs that the figure shows."""
    placed, width, height = _grid(figure.panels)
    caption = _lines(plain(figure.caption), (width - 2 * _MARGIN) / 8.2)
    legend, legend_height = _legend(figure.legend, width - 2 * _MARGIN)
    made = _lines(command, (width - 2 * _MARGIN) / 6.8)
    top = _MARGIN + 20.0 * len(caption) + legend_height + 12
    total = top + height + 16 + 15.0 * len(made) + _MARGIN / 2
    children: list[Child] = [
        tag("title", {"id": "title"}, plain(figure.caption)),
        tag("desc", {"id": "desc"}, " ".join(f"{p.title}: {p.description}" for p in figure.panels)),
        tag("style", {}, Markup(style("colours.css", "figures.css", "study_figures.css") + _OWN_STYLE)),
        tag("rect", {"class": "sheet", "x": 0, "y": 0, "width": width, "height": total}),
    ]
    for number, line in enumerate(caption):
        children.append(words(_MARGIN, _MARGIN + 12 + 20 * number, line, "caption"))
    children.append(_moved(_MARGIN, _MARGIN + 20 * len(caption), *legend))
    for panel, (x, y) in zip(figure.panels, placed, strict=True):
        group = tag("g", {"class": "panel"}, *panel.children)
        children.append(_moved(_MARGIN + x, top + y, group))
    for number, line in enumerate(made):
        children.append(words(_MARGIN, top + height + 20 + 15 * number, line, "made"))
    attributes = {
        "xmlns": "http://www.w3.org/2000/svg",
        "width": f"{width:.0f}",
        "height": f"{total:.0f}",
        "viewBox": f"0 0 {width:.0f} {total:.0f}",
        "role": "img",
        "aria-labelledby": "title desc",
    }
    picture = tag("svg", attributes, *children)
    return join((Markup('<?xml version="1.0" encoding="UTF-8"?>\n'), picture, Markup("\n"))).source


def _grid(panels: Sequence[Panel]) -> tuple[list[tuple[float, float]], float, float]:
    """The place of each panel, the width of the picture, and the height of all panels."""
    widest = max(panel.width for panel in panels)
    columns = max(1, min(len(panels), _MOST_COLUMNS, int(1150 // widest)))
    placed, y = [], 0.0
    for first in range(0, len(panels), columns):
        row = panels[first : first + columns]
        placed += [(place * (widest + _GAP), y) for place in range(len(row))]
        y += max(panel.height for panel in row) + 10
    width = max(_NARROWEST, 2 * _MARGIN + columns * widest + (columns - 1) * _GAP)
    return placed, width, y


def _legend(entries: Sequence[tuple[Sign | None, Words]], width: float) -> tuple[list[Child], float]:
    """Signs and words, in as many lines as they need, and their height."""
    drawn: list[Child] = []
    x, y = 0.0, 6.0
    for sign, said in entries:
        text = visible(plain(said))
        needed = 50 + 7.4 * len(text)
        if x and x + needed > width:
            x, y = 0.0, y + 20
        if sign is not None:
            line = [path(((1, 8), (29, 8)), sign.dash)] if sign.dash is not None else []
            signs = (*line, mark(sign.shape, 15, 8, hollow=sign.is_hollow))
            drawn.append(_moved(x, y, tag("g", {"class": sign.hue}, *signs)))
        drawn.append(words(x + (34 if sign else 0), y + 12, text, "said"))
        x += needed + (0 if sign else -30)
    return drawn, y + 20 if entries else 0.0


def _moved(x: float, y: float, *children: Child) -> Markup:
    return tag("g", {"transform": f"translate({x:.1f} {y:.1f})"}, *children)


def _lines(text: str, num_characters: float) -> list[str]:
    return textwrap.wrap(visible(text), max(20, int(num_characters)), break_on_hyphens=False)
