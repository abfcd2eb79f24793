"""What a rule has to be told about the sites' updates before it can weigh them, and how many it needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mixing:
    """How mixing weights are learned (``mixing.py``): ``steps`` gradient steps of size ``rate``."""

    steps: int
    rate: float
    gamma: float


@dataclass(frozen=True, slots=True)
class Search:
    """Which temperatures are tried, besides none at all (``searching.py``), and the power of the sizes."""

    taus: tuple[float, ...]
    gamma: float


@dataclass(frozen=True, slots=True)
class Needs:
    """``losses``: each update's ``validation_loss``. ``mixing``, ``search``: its ``mixing_weight``, learned
    or searched for so; a search needs the losses too. ``num_sites``: those that a round must have for the
    rule to withstand what it says; a study whose rounds have fewer is refused, and a single round that has
    fewer is aggregated as well as can be."""

    losses: bool = False
    mixing: Mixing | None = None
    search: Search | None = None
    num_sites: int = 1

    @property
    def validation(self) -> bool:
        """Whether anything has to be validated."""
        return self.losses or self.mixing is not None
