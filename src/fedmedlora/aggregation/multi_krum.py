"""Multi-Krum: the mean of the adapters that have the nearest neighbours, without those that have not.

Blanchard et al., https://arxiv.org/abs/1703.02757: the m lowest of Krum's scores (``krum.py``) are
averaged. At most n - f are, for so many are good at least; how far bad ones can move the mean: Bareilles et
al., https://arxiv.org/abs/2602.03899. Each counts the same, whatever size it claims. The mean is of products,
put back into rank r (``product_mean.py``).

As Krum it needs n > 2 f + 2 sites, takes a round of fewer with the largest f that it has enough of, and one
or two sites as they are. Between one adapter (``num_kept = 1``, which is Krum) and the mean of all, m trades
what the others have learned for what a bad one that keeps near could do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedmedlora.aggregation.check import check_alike, check_fit, check_updates
from fedmedlora.aggregation.combined import Combined
from fedmedlora.aggregation.krum import NUM_BAD_MEANING, combined, ranked, weights_of
from fedmedlora.aggregation.needs import Needs
from fedmedlora.aggregation.shares import check_count
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.exchange.update import SiteUpdate


@dataclass(frozen=True, slots=True)
class MultiKrum:
    """``num_bad``: f. ``num_kept``: m, of how many the mean is; 0: n - f, all that may be."""

    num_bad: int = field(default=1, metadata={"meaning": NUM_BAD_MEANING})
    num_kept: int = field(
        default=0,
        metadata={"meaning": "sites whose mean is taken, n - f of n at most (m); 0: so many"},
    )

    def __post_init__(self) -> None:
        check_count("multi_krum", "num_bad", self.num_bad, 0)
        check_count("multi_krum", "num_kept", self.num_kept, 0)

    @property
    def needs(self) -> Needs:
        """2 f + 3 sites, and m + f."""
        return Needs(num_sites=max(2 * self.num_bad + 3, self.num_kept + self.num_bad))

    @property
    def local(self) -> Local:
        """Plain training; both factors travel."""
        return Local()

    def fold(self, current: Adapter) -> None:
        """Scores are known when all updates are there."""

    def weights(self, updates: Sequence[SiteUpdate]) -> dict[str, float]:
        """1 / m for the sites that are taken, 0 for the others; sorted by site.

        Raises ValueError for what ``check_updates`` and ``check_alike`` refuse.
        """
        ordered = check_updates(updates)
        check_alike(ordered)
        chosen, num_bad = ranked(ordered, self.num_bad)
        return weights_of(ordered, self._taken(chosen, num_bad))

    def aggregate(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
        """See ``combine``."""
        return self.combine(current, updates).adapter

    def combine(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Combined:
        """The mean of the m lowest scores; figures ``num_bad`` (as of ``krum``) and ``refactoring_error``.

        Raises ValueError for what ``check_updates`` and ``check_fit`` refuse.
        """
        ordered = check_updates(updates)
        check_fit(current, ordered)
        chosen, num_bad = ranked(ordered, self.num_bad)
        return combined(current, ordered, self._taken(chosen, num_bad), num_bad)

    def _taken(self, chosen: Sequence[SiteUpdate], num_bad: int) -> Sequence[SiteUpdate]:
        if len(chosen) < 3:
            return chosen
        most = len(chosen) - num_bad
        return chosen[: min(self.num_kept or most, most)]


RULE = MultiKrum
