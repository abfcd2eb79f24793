"""Every figure of a study's report as an SVG file, and every table as a CSV file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmedlora.report.atomic import write_atomic
from fedmedlora.report.study.parts import parts_of
from fedmedlora.report.study.picture_file import picture_text
from fedmedlora.report.study.pieces import StudyFigure, StudyTable
from fedmedlora.report.study.table_file import csv_text
from fedmedlora.report.study.view import view_of
from fedmedlora.results.study_check import validate_study

FIGURES, TABLES = "figures", "tables"


def write_figures_and_tables(results: Mapping[str, Any], folder: str | Path) -> tuple[Path, ...]:
    """The files written below ``folder``: ``figures/NAME.svg`` and ``tables/NAME.csv``, in the page's order.

    The numbers of a figure are the table of the same name. Each file is written whole or not at all, and
    the same results give the same bytes. Raises ValueError for results that do not follow the schema, and
    when a file cannot be written.
    """
    validate_study(results)
    texts = _texts(results)
    folder = Path(folder)
    for name in (FIGURES, TABLES):
        try:
            (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"{folder / name}: cannot be made ({error.strerror}); "
                "it needs a folder that may be written to"
            ) from error
    for path, text in texts.items():
        write_atomic(folder / path, text)
    return tuple(folder / path for path in texts)


def _texts(results: Mapping[str, Any]) -> dict[str, str]:
    """By path below the folder."""
    view = view_of(results)
    found = {}
    for part in parts_of(view):
        for piece in part.pieces:
            if isinstance(piece, StudyFigure):
                found[f"{FIGURES}/{piece.ident}.svg"] = picture_text(piece, view.command(piece.arms))
                found[f"{TABLES}/{piece.ident}.csv"] = csv_text(piece.table)
            elif isinstance(piece, StudyTable):
                found[f"{TABLES}/{piece.ident}.csv"] = csv_text(piece)
    return found
