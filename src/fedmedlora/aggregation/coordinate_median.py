"""Coordinate-wise median: of every number the middle one of the sites', of an even number the mean of two.

Yin et al., https://arxiv.org/abs/1803.01498, definition 1. The numbers are those of what sites add to the
model, the products B A (``coordinates.py``). Every site counts the same, whatever size it claims. Departs in
that the result is put back into rank r: what that loses is told.

Withstands fewer than half of the sites: every number lies between two of good sites then. No setting says how
many are bad. The price is that numbers which few sites move, and rightly so, do not move: where sites differ,
it learns less than a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedmedlora.aggregation.check import check_fit, check_updates
from fedmedlora.aggregation.combined import Combined
from fedmedlora.aggregation.coordinates import middle_mean
from fedmedlora.aggregation.mean import alike
from fedmedlora.aggregation.needs import Needs
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.exchange.update import SiteUpdate


@dataclass(frozen=True, slots=True)
class CoordinateMedian:
    """The median of every number. No settings."""

    @property
    def needs(self) -> Needs:
        """Three sites: the median of two is their mean."""
        return Needs(num_sites=3)

    @property
    def local(self) -> Local:
        """Plain training; both factors travel."""
        return Local()

    def fold(self, current: Adapter) -> None:
        """Which number is in the middle is known when all updates are there."""

    def weights(self, updates: Sequence[SiteUpdate]) -> dict[str, float]:
        """The same for all that trained, any of which may be in the middle; sorted by site.

        Raises ValueError: see ``check_updates``.
        """
        return alike(updates)

    def aggregate(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
        """See ``combine``."""
        return self.combine(current, updates).adapter

    def combine(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Combined:
        """The median; figure ``refactoring_error``.

        Raises ValueError for what ``check_updates`` and ``check_fit`` refuse.
        """
        ordered = check_updates(updates)
        check_fit(current, ordered)
        adapters = [update.adapter for update in ordered if update.num_target_tokens]
        adapter, lost = middle_mean(current, adapters, (len(adapters) - 1) // 2)
        return Combined(alike(ordered), adapter, {"refactoring_error": lost})


RULE = CoordinateMedian
