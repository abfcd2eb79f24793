"""Results of a study of many runs -> ``report.html``, one page; ``shell.py`` says what it forbids itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmedlora.report.atomic import write_atomic
from fedmedlora.report.markup import Child, Markup
from fedmedlora.report.record_section import limits_section
from fedmedlora.report.shell import whole_page
from fedmedlora.report.study.parts import parts_of
from fedmedlora.report.study.pieces import title_of
from fedmedlora.report.study.render import part_markup
from fedmedlora.report.study.view import view_of
from fedmedlora.results.study_check import validate_study

FILE_NAME = "report.html"
_LIMITS = (
    (
        "Intervals hold the notes and, where there are several, the seeds, and nothing else.",
        "Who annotated, which hospitals took part and how the settings were chosen are not in them.",
    ),
    (
        "Many numbers were looked at.",
        "Holm's correction holds for the comparisons that were made together, not for a difference that is "
        "picked out of all tables of this page.",
    ),
)


def write_study_report(results: Mapping[str, Any], folder: str | Path) -> Path:
    """The path of ``report.html`` in ``folder``, written whole or not at all.

    ``results`` as the study's results file holds them. The same results give the same bytes. Raises
    ValueError for results that do not follow the schema, and when the file cannot be written.
    """
    path = Path(folder) / FILE_NAME
    write_atomic(path, study_page_text(results))
    return path


def study_page_text(results: Mapping[str, Any]) -> str:
    """The whole page as HTML. Raises ValueError for results that do not follow the schema."""
    validate_study(results)
    view = view_of(results)
    parts: dict[str, tuple[Child, Markup]] = {
        part.ident: (title_of(part.short), part_markup(part, view)) for part in parts_of(view)
    }
    parts["limits"] = ("Limits", limits_section(*_LIMITS))
    return whole_page(
        str(results["name"]),
        "fedmedlora · report of a study of many runs",
        results["created_utc"],
        parts,
        results["environment"]["fedmedlora"],
        ("study_figures.css", "study.css"),
    )
