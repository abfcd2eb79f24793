"""FedProx: while a site trains, its adapter is pulled towards the one that the round began with.

    site k minimizes  F_k(w) + mu / 2 * |w - w_t|^2,  and the results are averaged

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020,
https://arxiv.org/abs/1812.06127, equation 2. w are the adapter's arrays. Departs in the weights: by
supervised target tokens, as ``fed_medlora`` does. The loss that is reported is F_k alone.
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
class FedProx:
    """``mu``: strength of the pull, 0 (none: then it is ``fed_medlora``) and above."""

    mu: float = field(default=0.01, metadata={"meaning": "strength of the pull, 0 (none) and above"})

    def __post_init__(self) -> None:
        is_number = isinstance(self.mu, (int, float)) and not isinstance(self.mu, bool)
        if not is_number or not math.isfinite(self.mu) or self.mu < 0:
            raise ValueError(f"rule fedprox: mu must be a number, 0 or above, got {self.mu!r}")

    @property
    def needs(self) -> Needs:
        """Nothing: sizes are enough."""
        return Needs()

    @property
    def local(self) -> Local:
        """Both factors, with the pull."""
        return Local(proximal=float(self.mu))

    def fold(self, current: Adapter) -> FoldBySize:
        """Sizes are enough to weigh one update after the other."""
        return FoldBySize(current)

    def weights(self, updates: Sequence[SiteUpdate]) -> dict[str, float]:
        """Site -> n_k / sum n. Raises ValueError: see ``check_updates``."""
        return by_size(updates)

    def aggregate(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
        """The weighted mean. Raises ValueError: see ``weighted_mean``."""
        return mean_by_size(current, updates)


RULE = FedProx
