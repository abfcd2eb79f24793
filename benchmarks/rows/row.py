"""One row of the table: what was measured, against what, and what is asked of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, lowest and highest of a few repetitions."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def ratios(over: Sequence[float], under: Sequence[float]) -> Spread:
    """Of times that were measured in turn, one ratio per repetition."""
    return spread([a / b for a, b in zip(over, under, strict=True)])


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked of a value: ``least`` or ``most``; ``of_bound``: as a share of the row's bound."""

    least: float | None = None
    most: float | None = None
    of_bound: bool = False
    unit: str = ""

    def words(self) -> str:
        if self.of_bound:
            return f"at least {100 * (self.least or 0):.0f} % of the bound"
        if self.least is not None:
            return f"at least {self.least:g}{self.unit}"
        return "" if self.most is None else f"at most {self.most:g}{self.unit}"

    def met(self, value: float, bound: float | None = None) -> bool | None:
        """None where nothing is asked, or where the bound that it is a share of is not known."""
        if self.of_bound:
            return None if bound is None else value >= (self.least or 0) * bound
        if self.least is not None:
            return value >= self.least
        return None if self.most is None else value <= self.most


NO_TARGET = Target()


def beside_encoder(form: str) -> Target:
    """What is asked beside an encoder of BERT-base's size: of the fastest form that keeps F1 alone."""
    return NO_TARGET if form == "markup" else Target(most=4.0, unit=" times its time")


@dataclass(frozen=True, slots=True)
class Row:
    """``ratio``: how many times as much or as fast, None where it is no ratio or was not measured.

    ``found``: what was found in words, where a ratio does not say it. ``bound``: the most that ``ratio`` can
    be, by counting operations. ``same``: how the results of both sides compare. ``details``: numbers in units
    (``_s``, ``_bytes``), for the JSON alone. ``why``: of what was not measured.
    """

    name: str
    against: str
    where: str
    ratio: Spread | None = None
    found: str = ""
    bound: float | None = None
    target: str = ""
    met: bool | None = None
    same: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    command: str = ""


def measured(
    name: str,
    against: str,
    where: str,
    ratio: Spread,
    *,
    target: Target = NO_TARGET,
    bound: float | None = None,
    same: str = "",
    is_same: bool = True,
    found: str = "",
    details: dict[str, Any] | None = None,
) -> Row:
    """A row with a ratio, judged by its median. ``is_same``: no target is met by another result."""
    met = target.met(ratio.median, bound)
    return Row(
        name,
        against,
        where,
        ratio,
        found,
        bound,
        target.words(),
        None if met is None else met and is_same,
        same,
        details or {},
    )


def to_json(row: Row) -> dict[str, Any]:
    return asdict(row)


def from_json(table: dict[str, Any]) -> Row:
    """The inverse of ``to_json``."""
    ratio = table["ratio"]
    return Row(**{**table, "ratio": None if ratio is None else Spread(**ratio)})
