"""Whether a study gives its aggregation rules what they need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmedlora.aggregation.needs import Needs
from fedmedlora.aggregation.rule import load_rule
from fedmedlora.study_tables import Validation


def check_settings(rules: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` unless every table of ``[rules]`` is one that its rule takes."""
    for rule, settings in rules.items():
        if not isinstance(settings, dict):
            raise ValueError(f"[rules] {rule[:80]}: write a rule's settings as [rules.NAME]")
        try:
            load_rule(rule, settings)
        except ValueError as error:
            raise ValueError(f"[rules.{rule[:80]}] {error}") from error


def check_needs(
    rule: str,
    needs: Needs,
    validation: Validation,
    *,
    is_instruction: bool,
    num_there: tuple[int, int],
    most_asked: int,
) -> None:
    """Raise ``ValueError`` unless ``rule`` gets what it ``needs``.

    ``num_there``: fewest and most sites of a round. ``most_asked``: most that are asked in one.
    """
    if most_asked < needs.num_sites:
        raise ValueError(
            f"methods: {rule} withstands what it should in rounds of {needs.num_sites} sites or more, and "
            f"none has more than {most_asked}; change [rules.{rule}], or take it out (docs/aggregation.md)"
        )
    if not needs.validation:
        return
    if validation.signal == "f1" and is_instruction:
        why = "is of entities and modifiers, and instruction data has none"
        raise ValueError(f'[validation] signal: "f1" {why}; set signal = "loss"')
    if validation.by == "sites" and needs.mixing is not None:
        raise ValueError(
            f'[validation] by: "sites" send losses, and {rule} learns weights from gradients on the '
            'coordinator\'s own notes; set by = "coordinator"'
        )
    if validation.by == "sites" and num_there[0] < 2:
        raise ValueError(
            f'[validation] by: "sites" needs two sites or more in every round, for nobody scores '
            f"itself; {rule} would have no loss to weigh by"
        )
    if validation.by == "coordinator" and not validation.notes:
        why = f"{rule} weighs each site by its loss on validation notes. Name them, or take {rule}"
        raise ValueError(f"[validation] notes: missing; {why} out of methods")
