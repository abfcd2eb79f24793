"""What comes of a round: the sites' weights, the next adapter, and figures about how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate


@dataclass(frozen=True, slots=True)
class Combined:
    """``weights``, ``adapter``: see ``rule.Rule``. ``figures``: name -> number, for the round's record.

    Figures are finite. They speak of the round as a whole, never of what is in an array.
    """

    weights: dict[str, float]
    adapter: Adapter
    figures: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Combines(Protocol):
    """A rule that finds weights, adapter and figures in one go; what most rules have no use for."""

    def combine(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Combined:
        """What ``weights`` and ``aggregate`` say, bit for bit, and figures with it. Errors: as there."""
