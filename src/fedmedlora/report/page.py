"""Results -> ``report.html``: one page that needs no network, no script and no font but the reader's own.

The page forbids itself to load anything (its content security policy), so that it stays a record of
the run wherever it is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from fedmedlora.report.answers_section import answers_section
from fedmedlora.report.atomic import write_atomic
from fedmedlora.report.blocks import items, name
from fedmedlora.report.examples import examples_section
from fedmedlora.report.markup import Markup, join, tag
from fedmedlora.report.record_section import limits_section, omitted_section, record_section
from fedmedlora.report.rounds_section import cost_section, rounds_section
from fedmedlora.report.rows import has_answers
from fedmedlora.report.score_section import scores_section
from fedmedlora.report.summary import cohorts_section, summary_section
from fedmedlora.results.check import validate

FILE_NAME = "report.html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def write_report(
    results: Mapping[str, Any], folder: str | Path, examples: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """The path of ``report.html`` in ``folder``, written whole or not at all.

    ``results`` as ``results.json`` holds them. ``examples``: example predictions of synthetic cohorts (see
    ``examples_section``). The same arguments give the same bytes. Raises ValueError for results that do
    not follow the schema, for an example that is not synthetic, and when the file cannot be written.
    """
    path = Path(folder) / FILE_NAME
    write_atomic(path, page_text(results, examples))
    return path


def page_text(results: Mapping[str, Any], examples: Sequence[Mapping[str, Any]] = ()) -> str:
    """The whole page as HTML; arguments and errors as in ``write_report``."""
    validate(results)
    parts = {
        "summary": ("Summary", summary_section(results)),
        "cohorts": ("Cohorts", cohorts_section(results)),
        "scores": ("Scores", (answers_section if has_answers(results) else scores_section)(results)),
        "rounds": ("Rounds", rounds_section(results)),
        "cost": ("Traffic, time, memory", cost_section(results)),
        "omitted": ("Left out", omitted_section(results)),
        **({"examples": ("Examples", examples_section(examples, results))} if examples else {}),
        "record": ("How to repeat it", record_section(results)),
        "limits": ("Limits", limits_section()),
    }
    links = [tag("a", {"href": f"#{ident}"}, title) for ident, (title, _) in parts.items()]
    body = (
        tag("a", {"class": "skip", "href": "#content"}, "Skip to the content"),
        tag(
            "header",
            {},
            tag("p", {"class": "kicker"}, "fedmedlora · report of a run"),
            tag("h1", {}, name(results["name"])),
            tag("p", {"class": "when"}, "Finished ", name(_time(results["created_utc"])), " UTC"),
        ),
        tag("nav", {"aria-label": "Contents"}, items(links)),
        tag("main", {"id": "content", "tabindex": -1}, *(part for _, part in parts.values())),
        tag(
            "footer",
            {},
            "Written by fedmedlora ",
            results["environment"]["fedmedlora"],
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
        tag("title", {}, f"{results['name']}: fedmedlora report"),
        tag("style", {}, Markup(_style())),
    )
    document = tag("html", {"lang": "en"}, tag("head", {}, *head), tag("body", {}, *body))
    return join((Markup("<!doctype html>\n"), document, Markup("\n"))).source


def _time(created_utc: str) -> str:
    return created_utc.removesuffix("Z").removesuffix("+00:00").replace("T", " ", 1)


@cache
def _style() -> str:
    return files("fedmedlora.report").joinpath("style.css").read_text(encoding="utf-8")
