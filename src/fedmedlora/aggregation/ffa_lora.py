"""FFA-LoRA: the random factor A stays as it was drawn at every site, B alone is trained and travels.

Sun et al., "Improving LoRA in Privacy-preserving Federated Learning", ICLR 2024,
https://arxiv.org/abs/2403.12313, section 4. The mean of products B_k A with one A is the product of the
mean B: averaging is exact, and half of the bytes travel. Departs in the weights: by supervised target
tokens, as ``fed_medlora`` does.
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
class FfaLora:
    """The mean of B by supervised target tokens. No settings."""

    @property
    def needs(self) -> Needs:
        """Nothing: sizes are enough."""
        return Needs()

    @property
    def local(self) -> Local:
        """B is trained and sent; A, drawn by the study's seed, is the same everywhere."""
        return Local(trains="B", sends="B")

    def fold(self, current: Adapter) -> FoldBySize:
        """Sizes are enough to weigh one update after the other."""
        return FoldBySize(current)

    def weights(self, updates: Sequence[SiteUpdate]) -> dict[str, float]:
        """Site -> n_k / sum n. Raises ValueError: see ``check_updates``."""
        return by_size(updates)

    def aggregate(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
        """The weighted mean. Raises ValueError: see ``weighted_mean``."""
        return mean_by_size(current, updates)


RULE = FfaLora
