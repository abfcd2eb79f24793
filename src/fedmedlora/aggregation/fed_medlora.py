"""Fed-MedLoRA: every site counts by how much it trained on.

    w_k = n_k / sum_j n_j

Li et al., "A Federated and Parameter-Efficient Framework for Large Language Model Training in
Medicine", https://arxiv.org/abs/2601.22124; the mean of McMahan et al., https://arxiv.org/abs/1602.05629,
over adapters. Departs in one thing: n_k counts supervised target tokens, not notes or sentences, so that
a site with short sentences does not count for more than it taught.
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
class FedMedLora:
    """Weighs by supervised target tokens. No settings. A site with none has weight 0."""

    @property
    def needs(self) -> Needs:
        """Nothing: sizes are enough."""
        return Needs()

    @property
    def local(self) -> Local:
        """Plain training; both factors travel."""
        return Local()

    def fold(self, current: Adapter) -> FoldBySize:
        """Sizes are enough to weigh one update after the other."""
        return FoldBySize(current)

    def weights(self, updates: Sequence[SiteUpdate]) -> dict[str, float]:
        """Site -> n_k / sum n, sorted by site. Raises ValueError: see ``check_updates``."""
        return by_size(updates)

    def aggregate(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
        """The weighted mean of the sites' adapters. Raises ValueError: see ``weighted_mean``."""
        return mean_by_size(current, updates)


RULE = FedMedLora
