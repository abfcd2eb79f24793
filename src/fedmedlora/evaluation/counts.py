"""Counts of matches: they add over notes, types and sites; precision, recall and F1 are derived.

A site sends counts, never F1: the mean of two F1 values is not the F1 of both sites together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Counts:
    """``tp`` matched pairs, ``fp`` predictions without a gold item, ``fn`` gold items without a prediction.

    Raises ``ValueError`` when a count is negative.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be a count."""
        if min(self.tp, self.fp, self.fn) < 0:
            raise ValueError(f"counts must be 0 or more, got tp={self.tp}, fp={self.fp}, fn={self.fn}")

    def __add__(self, other: Counts) -> Counts:
        """Both together, as if they had been counted at once."""
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float | None:
        """tp / (tp + fp); None when nothing was predicted."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """tp / (tp + fn); None when there is no gold."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float | None:
        """2tp / (2tp + fp + fn): 0 when only one of gold and prediction exists, None when neither does."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)


@dataclass(frozen=True, slots=True)
class TypedCounts:
    """Counts per type: an entity type, a modifier type, or a pair such as ``"problem.negation"``.

    A type that was scored and had nothing to count is present with three zeros; a type that the
    source does not annotate is absent. ``TypedCounts()`` is the zero of the addition.
    """

    per_type: Mapping[str, Counts] = field(default_factory=dict)

    def __add__(self, other: TypedCounts) -> TypedCounts:
        """Type by type; a type that one side lacks counts as zeros there."""
        types = sorted({*self.per_type, *other.per_type})
        none = Counts()
        return TypedCounts({t: self.per_type.get(t, none) + other.per_type.get(t, none) for t in types})

    def micro(self) -> Counts:
        """All types added up."""
        return sum(self.per_type.values(), Counts())

    def macro_f1(self) -> float | None:
        """Mean F1 over the types that have gold or predictions; None when no type has."""
        scores = [f1 for counts in self.per_type.values() if (f1 := counts.f1) is not None]
        return _ratio(sum(scores), len(scores))


def add_up(parts: Iterable[TypedCounts]) -> TypedCounts:
    """The sum of any number of typed counts; of none, ``TypedCounts()``."""
    return sum(parts, TypedCounts())


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None
