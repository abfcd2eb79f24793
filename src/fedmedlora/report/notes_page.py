"""Extracted notes as one HTML page, for the person who asked to read them.

Unlike a report this page shows note text; it is written only where ``extract --format html`` was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedmedlora.report.markup import Markup, escape

LabelledSpan = tuple[str, int, int]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.65 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; }
mark { background: none; color: inherit; border-bottom: 3px solid var(--hue, #777); }
mark.problem { --hue: #c2410c; } mark.treatment { --hue: #15803d; }
mark.drug { --hue: #1d4ed8; } mark.test { --hue: #7e22ce; }
small { color: #767676; font-size: .7em; margin-left: .2em; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .2rem .6rem .2rem 0; }
""".strip()


def notes_page(
    notes: Sequence[tuple[str, str, Sequence[LabelledSpan], Sequence[tuple[str, str, str]]]],
) -> str:
    """One page of ``(id, text, entities, links)``; a link is (entity text, modifier type, modifier text).

    An empty entity text: the modifier was found for a whole sentence and belongs to no entity.
    """
    parts = [
        f"<section><h2>{escape(note_id)}</h2>"
        f"<pre>{_marked(text, entities).source}</pre>{_links(links)}</section>"
        for note_id, text, entities, links in notes
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Extracted notes</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<style>{_STYLE}</style></head><body><h1>Extracted notes</h1>"
        "<p>Not a medical device: read the source before you act on this.</p>"
        + "".join(parts)
        + "</body></html>\n"
    )


def _marked(text: str, entities: Sequence[LabelledSpan]) -> Markup:
    """The text with entities underlined, nested ones inside each other.

    Where two cross, the outer ends first and the inner is drawn in two parts, its name on the last.
    """
    opens: dict[int, list[LabelledSpan]] = {}
    for entity in sorted(set(entities), key=lambda e: (e[1], -e[2], e[0])):
        opens.setdefault(entity[1], []).append(entity)
    places = sorted({0, len(text), *opens, *(end for _, _, end in entities)})
    html = ""
    opened: list[LabelledSpan] = []  # outermost first
    for start, end in zip(places, [*places[1:], len(text)], strict=True):
        first = next((i for i, entity in enumerate(opened) if entity[2] == start), len(opened))
        kept = [entity for entity in opened[first:] if entity[2] > start]
        for entity in reversed(opened[first:]):
            html += f"<small>{escape(entity[0])}</small></mark>" if entity[2] == start else "</mark>"
        opened[first:] = [*kept, *opens.get(start, ())]
        for kind, _, _ in opened[first:]:
            html += f'<mark class="{escape(kind)}">'
        html += escape(text[start:end], layout=True)
    return Markup(html)


def _links(links: Sequence[tuple[str, str, str]]) -> str:
    if not links:
        return ""
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in link)}</tr>" for link in links)
    head = '<tr><th scope="col">entity</th><th scope="col">modifier</th><th scope="col">words</th></tr>'
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
