"""FedSA-LoRA: sites train both factors, A alone travels, and each site keeps a B of its own.

Guo et al., "Selective Aggregation for Low-Rank Adaptation in Federated Learning", ICLR 2025,
https://arxiv.org/abs/2410.01463, section 3: A learns what is common, B what is a site's own. Half of the
bytes travel, and there are as many models as sites. Departs in the weights: by supervised target tokens,
as ``fed_medlora`` does, where the paper counts every site the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedmedlora.aggregation.mean import FoldBySize, by_size, mean_by_size
from fedmedlora.aggregation.needs import Needs
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.exchange.update import SiteUpdate


@dataclass(frozen=True, slots=True)
class FedSaLora:
    """The mean of A by supervised target tokens. No settings."""

    @property
    def needs(self) -> Needs:
        """Nothing: sizes are enough."""
        return Needs()

    @property
    def local(self) -> Local:
        """Both factors are trained, A is sent."""
        return Local(trains="both", sends="A")

    def fold(self, current: Adapter) -> FoldBySize:
        """Sizes are enough to weigh one update after the other."""
        return FoldBySize(current)

    def weights(self, updates: Sequence[SiteUpdate]) -> dict[str, float]:
        """Site -> n_k / sum n. Raises ValueError: see ``check_updates``."""
        return by_size(updates)

    def aggregate(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
        """The weighted mean. Raises ValueError: see ``weighted_mean``."""
        return mean_by_size(current, updates)


RULE = FedSaLora
