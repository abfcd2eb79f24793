"""FedAvg over the whole model: every parameter is trained and travels. What adapters save, shown beside them.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS
2017, https://arxiv.org/abs/1602.05629, algorithm 1. Departs in the weights: by supervised target tokens,
as ``fed_medlora`` does. For small models in float32; the learning rate is usually a tenth of an adapter's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fedmedlora.aggregation.mean import FoldBySize, by_size, mean_by_size
from fedmedlora.aggregation.needs import Needs
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.exchange.update import SiteUpdate


@dataclass(frozen=True, slots=True)
class FedAvgFull:
    """The mean of the sites' models by supervised target tokens."""

    learning_rate_factor: float = field(
        default=0.05,
        metadata={"meaning": "what training.learning_rate, meant for an adapter, is multiplied by, above 0"},
    )

    def __post_init__(self) -> None:
        factor = self.learning_rate_factor
        is_number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if not is_number or not math.isfinite(factor) or factor <= 0:
            raise ValueError(f"rule fedavg_full: learning_rate_factor must be above 0, got {factor!r}")

    @property
    def needs(self) -> Needs:
        """Nothing: sizes are enough."""
        return Needs()

    @property
    def local(self) -> Local:
        """The model itself."""
        return Local(trains="model", sends="model", learning_rate_factor=float(self.learning_rate_factor))

    def fold(self, current: Adapter) -> FoldBySize:
        """Sizes are enough to weigh one update after the other."""
        return FoldBySize(current)

    def weights(self, updates: Sequence[SiteUpdate]) -> dict[str, float]:
        """Site -> n_k / sum n. Raises ValueError: see ``check_updates``."""
        return by_size(updates)

    def aggregate(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
        """The weighted mean. Raises ValueError: see ``weighted_mean``."""
        return mean_by_size(current, updates)


RULE = FedAvgFull
