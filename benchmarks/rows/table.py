"""The table in Markdown, and its place in ``docs/performance.md``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rows.jobs import Job
from rows.machine import words
from rows.row import Row, Spread, from_json
from rows.setting import ROOT

PAGE = ROOT / "docs" / "performance.md"
RECORD = ROOT / "docs" / "performance.json"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
HEAD = "| what | against | where | ratio | bound | target | met | result |\n|---|---|---|---|---|---|---|---|"


def table(rows: Iterable[Row]) -> str:
    """One line per row."""
    return "\n".join([HEAD, *map(line, rows)])


def line(row: Row) -> str:
    """Its cells; what was not measured says so and why."""
    if row.why:
        value, result = "not measured", row.why
    else:
        value = "" if row.ratio is None else words_of(row.ratio)
        result = "; ".join(text for text in (row.found, row.same) if text)
    met = {True: "yes", False: "no", None: ""}[row.met]
    bound = "" if row.bound is None else f"{row.bound:.2f}"
    cells = (row.name, row.against, row.where, value, bound, row.target, met, result)
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def words_of(ratio: Spread) -> str:
    """Median and range; three figures each."""
    middle, low, high = (f"{value:.3g}" for value in (ratio.median, ratio.low, ratio.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def page_part(record: Mapping[str, Any], jobs: Sequence[Job]) -> str:
    """What stands between the marks of the page: the machines with their rows, and what was not measured."""
    by_machine: dict[str, list[Row]] = {}
    for job in record["jobs"].values():
        by_machine.setdefault(words(job["machine"]), []).extend(map(from_json, job["rows"]))
    parts = [f"Measured on {machine}.\n\n{table(rows)}" for machine, rows in by_machine.items()]
    missing = [replace(job.blank, why=f"key `{job.key}`") for job in jobs if job.name not in record["jobs"]]
    if missing:
        parts.append(f"Not measured:\n\n{table(missing)}")
    return "\n\n".join(parts)


def with_part(page: str, part: str) -> str:
    """``page`` with ``part`` between its marks. Raises ``ValueError`` where it has none."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"{PAGE.name}: must hold {BEGIN} and {END} once each, for the table to go between")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{part}\n{END}{rest.split(END)[1]}"


def write_page(page: Path, part: str) -> None:
    page.write_text(with_part(page.read_text(encoding="utf-8"), part), encoding="utf-8")
