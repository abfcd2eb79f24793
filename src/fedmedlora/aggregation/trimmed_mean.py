"""Trimmed mean: of every number the f highest and the f lowest of the sites' are left out, the rest averaged.

Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
ICML 2018, https://arxiv.org/abs/1803.01498, definition 2, where f is a share (their beta) of the n sites. The
numbers are those of what sites add to the model, the products B A (``coordinates.py``). Every site counts the
same, whatever size it claims. Departs in that the result is put back into rank r: what that loses is told.

Withstands f sites of n > 2 f: every number that is kept lies between two of good sites. A round of fewer
sites is taken with the largest f that it has enough of.

The weights of a round's record are those of the sites before anything is left out, which is decided number by
number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedmedlora.aggregation.check import check_fit, check_updates
from fedmedlora.aggregation.combined import Combined
from fedmedlora.aggregation.coordinates import middle_mean
from fedmedlora.aggregation.mean import alike
from fedmedlora.aggregation.needs import Needs
from fedmedlora.aggregation.shares import check_count
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.exchange.update import SiteUpdate


@dataclass(frozen=True, slots=True)
class TrimmedMean:
    """``num_bad``: f."""

    num_bad: int = field(
        default=1,
        metadata={
            "meaning": "sites of a round that may be bad, 0 or more (f): so many numbers are left out at "
            "each end; a round needs 2 f + 1 sites"
        },
    )

    def __post_init__(self) -> None:
        check_count("trimmed_mean", "num_bad", self.num_bad, 0)

    @property
    def needs(self) -> Needs:
        """2 f + 1 sites."""
        return Needs(num_sites=2 * self.num_bad + 1)

    @property
    def local(self) -> Local:
        """Plain training; both factors travel."""
        return Local()

    def fold(self, current: Adapter) -> None:
        """Which numbers are left out is known when all updates are there."""

    def weights(self, updates: Sequence[SiteUpdate]) -> dict[str, float]:
        """The same for all that trained; sorted by site. Raises ValueError: see ``check_updates``."""
        return alike(updates)

    def aggregate(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
        """See ``combine``."""
        return self.combine(current, updates).adapter

    def combine(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Combined:
        """The trimmed mean; figures ``num_bad`` (the f that there were sites for) and ``refactoring_error``.

        Raises ValueError for what ``check_updates`` and ``check_fit`` refuse.
        """
        ordered = check_updates(updates)
        check_fit(current, ordered)
        adapters = [update.adapter for update in ordered if update.num_target_tokens]
        num_bad = min(self.num_bad, (len(adapters) - 1) // 2)
        adapter, lost = middle_mean(current, adapters, num_bad)
        return Combined(alike(ordered), adapter, {"num_bad": float(num_bad), "refactoring_error": lost})


RULE = TrimmedMean
