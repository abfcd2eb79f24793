"""The extraction schema as data: entity types, modifiers, and which modifier may attach to which.

The default is the scheme of Li et al. (arXiv:2601.22124): 4 entity types, 16 modifiers, 22 pairs.
A pair is written ``"problem.negation"`` everywhere: in notes, counts, reports and study files.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schema:
    """Entity types, modifier types and the allowed (entity type, modifier type) pairs.

    ``entities`` and ``modifiers`` are in canonical order: prompts, tables and tie-breaks follow it.
    """

    name: str
    entities: tuple[str, ...]
    modifiers: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]  # (entity type, modifier type)

    def __post_init__(self) -> None:
        for kind, names in (("entity type", self.entities), ("modifier", self.modifiers)):
            if len(set(names)) != len(names):
                raise ValueError(f"schema {self.name!r}: a {kind} is named twice in {names}")
        both = set(self.entities) & set(self.modifiers)
        if both:
            raise ValueError(
                f"schema {self.name!r}: {sorted(both)} are both entity types and modifiers; "
                "a label has one meaning"
            )
        for entity_type, modifier_type in self.pairs:
            if entity_type not in self.entities or modifier_type not in self.modifiers:
                raise ValueError(
                    f"schema {self.name!r}: pair {entity_type}.{modifier_type} names an unknown type; "
                    f"entity types are {list(self.entities)}, modifiers {list(self.modifiers)}"
                )

    def modifiers_of(self, entity_type: str) -> tuple[str, ...]:
        """Modifier types that may attach to ``entity_type``, in canonical order."""
        allowed = {m for e, m in self.pairs if e == entity_type}
        return tuple(m for m in self.modifiers if m in allowed)

    def pair_names(self) -> tuple[str, ...]:
        """All allowed pairs as ``"entity.modifier"``."""
        return tuple(f"{e}.{m}" for e, m in self.pairs)


_PAIRS = {
    "problem": (
        "severity",
        "condition",
        "uncertain",
        "subject",
        "bodyloc",
        "course",
        "temporal",
        "negation",
    ),
    "treatment": ("temporal", "negation"),
    "drug": (
        "strength",
        "dosage",
        "duration",
        "form",
        "frequency",
        "route",
        "temporal",
        "negation",
    ),
    "test": ("labvalue", "reference_range", "temporal", "negation"),
}

CLINICAL = Schema(
    name="clinical",
    entities=("problem", "treatment", "drug", "test"),
    modifiers=(
        "severity",
        "condition",
        "uncertain",
        "subject",
        "bodyloc",
        "course",
        "strength",
        "dosage",
        "duration",
        "form",
        "frequency",
        "route",
        "labvalue",
        "reference_range",
        "temporal",
        "negation",
    ),
    pairs=tuple((e, m) for e, ms in _PAIRS.items() for m in ms),
)
