"""Norm clipping: no site pulls the mean further than the middle one does.

    sum_k w_k * min(1, bound / |P_k - W|) * (P_k - W) = 0,   P_k = B_k A_k of all pairs together

so that W is where the sites' pulls, none of them longer than ``bound``, add up to nothing: Karimireddy, He,
Jaggi, "Learning from History for Byzantine Robust Optimization" (centered clipping), ICML 2021,
https://arxiv.org/abs/2012.10333. Departs in three things: its few steps go on until nothing moves
(``reweighting.py``), from the adapter of now; by default the bound is the median of the distances, which
needs no tuning; and norms are those of what the model is changed by and not of B and A apart
(``products.py``), so that what comes of it is put back into rank r (``product_mean.py``).

``around = "current"`` takes one step only, from the adapter of now,

    W = W_0 + sum_k w_k * min(1, bound / |P_k - W_0|) * (P_k - W_0)

Sun et al., "Can You Really Backdoor Federated Learning?", https://arxiv.org/abs/1911.07963, where the bound
is a number. Then no round moves the model further than the bound. But a change of the wrong sign has an
honest size, passes whole and takes an honest site's away; around what most sites found it is twice as far
off as they are from nothing, and is cut.

Withstands fewer than half of the sites, however far they are. Weights are by data size, which sites say
themselves: where they are not to be believed, ``weigh = "equal"``.

Law 2 is broken by design where ``bound`` is given and ``around = "current"``: a site alone that goes further
is clipped too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fedmedlora.aggregation.check import check_fit, check_updates
from fedmedlora.aggregation.combined import Combined
from fedmedlora.aggregation.needs import Needs
from fedmedlora.aggregation.product_mean import product_mean
from fedmedlora.aggregation.products import Array64, lower_median, points
from fedmedlora.aggregation.reweighting import NEVER_ZERO, settled
from fedmedlora.aggregation.shares import WEIGH_MEANING, check_weigh, shares
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.exchange.update import SiteUpdate

_AROUND = ("found", "current")


@dataclass(frozen=True, slots=True)
class NormClipping:
    """``bound``: the longest pull of a site, in units of B A without alpha / r; 0: the median of the
    distances. ``around``: what they are distances from."""

    bound: float = field(
        default=0.0,
        metadata={
            "meaning": "largest distance of a site's products B A, all together, that counts in full, 0 or "
            "above; 0: the median of the sites' distances"
        },
    )
    around: str = field(
        default="found",
        metadata={
            "meaning": '"found": distances are from what the rule finds, so that a wrong direction counts '
            'little; "current": from the adapter of now, so that no round moves it further than bound'
        },
    )
    weigh: str = field(default="size", metadata={"meaning": WEIGH_MEANING})

    def __post_init__(self) -> None:
        is_number = isinstance(self.bound, (int, float)) and not isinstance(self.bound, bool)
        if not is_number or not math.isfinite(self.bound) or self.bound < 0:
            raise ValueError(
                f"rule norm_clipping: bound must be a number, above 0, or 0 for the median of the round; "
                f"got {self.bound!r}"
            )
        if self.around not in _AROUND:
            raise ValueError(
                f'rule norm_clipping: around must be "found" or "current", got {str(self.around)[:40]!r}'
            )
        check_weigh("norm_clipping", self.weigh)

    @property
    def needs(self) -> Needs:
        """Nothing: norms are in the updates."""
        return Needs()

    @property
    def local(self) -> Local:
        """Plain training; both factors travel."""
        return Local()

    def fold(self, current: Adapter) -> None:
        """The bound is known when all updates are there."""

    def weights(self, updates: Sequence[SiteUpdate]) -> dict[str, float]:
        """Site -> w_k, before anything is clipped; sorted by site. Raises ValueError: see
        ``check_updates``."""
        return shares(self.weigh, updates)

    def aggregate(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
        """See ``combine``."""
        return self.combine(current, updates).adapter

    def combine(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Combined:
        """The next adapter; figures ``norm_bound``, ``num_clipped`` and ``refactoring_error``.

        Raises ValueError for what ``check_updates`` and ``check_fit`` refuse.
        """
        ordered = check_updates(updates)
        check_fit(current, ordered)
        weights = shares(self.weigh, ordered)
        counted = [update for update in ordered if weights[update.site] > 0]
        adapters = [update.adapter for update in counted]
        parts = np.array([weights[update.site] for update in counted])
        apart = points([current, *adapters]).apart()[0, 1:]
        if self.around == "current":
            bound = self._bound(apart)
            kept = bound / np.maximum(apart, bound)
            factors, of_current = parts * kept, math.fsum(parts * (1.0 - kept))
        else:
            where = points(adapters)
            factors, of_current = settled(where, parts, apart, self._bound), 0.0
            apart = where.from_mean(factors)
            bound = self._bound(apart)
        adapter, lost = product_mean(current, adapters, factors.tolist(), of_current)
        figures = {
            "norm_bound": bound if bound > NEVER_ZERO else 0.0,
            "num_clipped": float(np.sum(apart > bound)),
            "refactoring_error": lost,
        }
        return Combined(weights, adapter, figures)

    def _bound(self, apart: Array64) -> float:
        """The longest pull, above 0, of sites that are ``apart`` from where they pull at."""
        return float(self.bound) or max(lower_median(apart), NEVER_ZERO)


RULE = NormClipping
