"""What stands around a report: one HTML page that needs no network, no script and no font of its own.

The page forbids itself to load anything (its content security policy), so that it stays a record of
what was run wherever it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from fedmedlora.report.blocks import items, name
from fedmedlora.report.markup import Child, Markup, join, tag

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def whole_page(
    title: str,
    kicker: str,
    created_utc: str,
    parts: Mapping[str, tuple[Child, Markup]],
    version: str,
    more_styles: tuple[str, ...] = (),
) -> str:
    """The page as HTML. ``parts``: by identifier, in order, (name in the contents, section).

    ``version``: of the fedmedlora that ran. ``more_styles``: style sheets of this package, put last.
    """
    links = [tag("a", {"href": f"#{ident}"}, words) for ident, (words, _) in parts.items()]
    body = (
        tag("a", {"class": "skip", "href": "#content"}, "Skip to the content"),
        tag(
            "header",
            {},
            tag("p", {"class": "kicker"}, kicker),
            tag("h1", {}, name(title)),
            tag("p", {"class": "when"}, "Finished ", name(_time(created_utc)), " UTC"),
        ),
        tag("nav", {"aria-label": "Contents"}, items(links)),
        tag("main", {"id": "content", "tabindex": -1}, *(part for _, part in parts.values())),
        tag(
            "footer",
            {},
            "Written by fedmedlora ",
            version,
            ". Research software, not a medical device. Adapters can memorize what they were trained on; "
            "there is no differential privacy yet.",
        ),
    )
    head = (
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY}),
        tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("meta", {"name": "color-scheme", "content": "light dark"}),
        tag("meta", {"name": "referrer", "content": "no-referrer"}),
        tag("link", {"rel": "icon", "href": "data:,"}),
        tag("title", {}, f"{title}: fedmedlora report"),
        tag("style", {}, Markup(style("colours.css", "figures.css", "style.css", *more_styles))),
    )
    document = tag("html", {"lang": "en"}, tag("head", {}, *head), tag("body", {}, *body))
    return join((Markup("<!doctype html>\n"), document, Markup("\n"))).source


@cache
def style(*names: str) -> str:
    """Style sheets of this package, one after the other."""
    return "".join(files("fedmedlora.report").joinpath(name).read_text(encoding="utf-8") for name in names)


def _time(created_utc: str) -> str:
    return created_utc.removesuffix("Z").removesuffix("+00:00").replace("T", " ", 1)
