"""Results of a run -> ``report.html``, one page; ``shell.py`` says what it forbids itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmedlora.report.answers_section import answers_section
from fedmedlora.report.atomic import write_atomic
from fedmedlora.report.examples import examples_section
from fedmedlora.report.record_section import limits_section, omitted_section, record_section
from fedmedlora.report.rounds_section import cost_section, rounds_section
from fedmedlora.report.rows import has_answers
from fedmedlora.report.score_section import scores_section
from fedmedlora.report.shell import whole_page
from fedmedlora.report.summary import cohorts_section, summary_section
from fedmedlora.results.check import validate

FILE_NAME = "report.html"


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
    return whole_page(
        str(results["name"]),
        "fedmedlora · report of a run",
        results["created_utc"],
        parts,
        results["environment"]["fedmedlora"],
    )
