"""Norm clipping: no site pulls the mean further than the middle one does.

    sum_k w_k * min(1, bound / |P_k - W|) * (P_k - W) = 0,   P_k = B_k A_k of all pairs together

so that W is where the sites' pulls, none of them longer than ``bound``, add up to nothing: the clipping of
Karimireddy, He, Jaggi, "Learning from History for Byzantine Robust Optimization" (centered clipping), ICML
2021, https://arxiv.org/abs/2012.10333, around the result itself. Departs in four things: the paper clips
workers' momenta around the last round's, with which goes its guarantee over many rounds, and here is a round
and no memory; steps go on until they settle (``reweighting.py``); by default the bound is the median of
the distances, which needs no tuning; and distances are those of what the model is changed by and not of B and
A apart (``products.py``), so that what comes of it is put back into rank r (``product_mean.py``).

With equal weights and f < n / 2 bad sites among n, W is never further than n D / (n - 2f) from a point that
all good sites are within D of: 1.7 D for one of five, 5 D for two. (At a W that is R > D away the bound is no
longer than R + D, so that each good site pulls back by bound * (R - D) / (R + D) or more, and a bad one away
by the bound at most.) With ``weigh = "size"`` the bad ones must have less than half of the weight, too, which
sites say themselves.

``around = "current"`` takes one step, from the adapter of now,

    W = W_0 + sum_k w_k * min(1, bound / |P_k - W_0|) * (P_k - W_0)

Sun et al., "Can You Really Backdoor Federated Learning?", https://arxiv.org/abs/1911.07963, where the bound
is a number. No round asks for a move further than the bound then (putting it into rank r may make it twice
as long). But a change of the wrong sign has an honest size, passes whole and takes an honest site's away.
Around the result it is further off than the others, the more the nearer they are to each other, and is cut.

Law 2 is broken by design where ``bound`` is given and ``around = "current"``: a site alone that goes further
is clipped too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fedmedlora.aggregation.check import check_alike, check_fit, check_updates
from fedmedlora.aggregation.combined import Combined
from fedmedlora.aggregation.needs import Needs
from fedmedlora.aggregation.product_mean import product_mean
from fedmedlora.aggregation.products import Array64, Points, lower_median, points
from fedmedlora.aggregation.reweighting import NEVER_ZERO, from_the_others, settled_weights
from fedmedlora.aggregation.shares import WEIGH_MEANING, check_weigh, shares
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.exchange.update import SiteUpdate

_AROUND = ("result", "current")
_CLIPPED = 1.0 + 1e-6  # of sites that are as far as the bound, some are further by rounding


@dataclass(frozen=True, slots=True)
class NormClipping:
    """``bound``: the longest pull of a site, in units of B A without alpha / r; 0: the median of the
    distances. ``around``: what they are distances from. ``weigh``: what w_k is."""

    bound: float = field(
        default=0.0,
        metadata={
            "meaning": "largest distance of a site's products B A, all together, that counts in full, 0 or "
            "above; 0: the median of the sites' distances, which is what a number should be near"
        },
    )
    around: str = field(
        default="result",
        metadata={
            "meaning": '"result": distances are from what the rule finds, so that a wrong direction counts '
            'little; "current": from the adapter of now, and clipped once'
        },
    )
    weigh: str = field(default="equal", metadata={"meaning": WEIGH_MEANING})

    def __post_init__(self) -> None:
        is_number = isinstance(self.bound, (int, float)) and not isinstance(self.bound, bool)
        if not is_number or not math.isfinite(self.bound) or self.bound < 0:
            raise ValueError(
                f"rule norm_clipping: bound must be a number, above 0, or 0 for the median of the round; "
                f"got {self.bound!r}"
            )
        if self.around not in _AROUND:
            raise ValueError(
                f'rule norm_clipping: around must be "result" or "current", got {str(self.around)[:40]!r}'
            )
        check_weigh("norm_clipping", self.weigh)

    @property
    def needs(self) -> Needs:
        """Three sites, unless clipped once: of two none is nearer to the others."""
        return Needs(num_sites=3) if self.around == "result" else Needs()

    @property
    def local(self) -> Local:
        """Plain training; both factors travel."""
        return Local()

    def fold(self, current: Adapter) -> None:
        """Distances are known when all updates are there."""

    def weights(self, updates: Sequence[SiteUpdate]) -> dict[str, float]:
        """Site -> its weight in the result, or where it is clipped once w_k, before that; sorted by site.

        Raises ValueError for what ``check_updates`` refuses, and for arrays that differ in names or shapes or
        are not finite.
        """
        ordered = check_updates(updates)
        check_alike(ordered)
        weights = shares(self.weigh, ordered)
        if self.around == "current":
            return weights
        counted = [update for update in ordered if weights[update.site] > 0]
        parts = np.array([weights[update.site] for update in counted])
        found = self._settled(points([update.adapter for update in counted]), parts)
        return weights | dict(zip((update.site for update in counted), found.tolist(), strict=True))

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
        if self.around == "current":
            apart = points([current, *adapters]).apart()[0, 1:]
            bound = self._bound(apart)
            kept = bound / np.maximum(apart, bound)
            factors, of_current = parts * kept, math.fsum(parts * (1.0 - kept))
        else:
            where = points(adapters)
            factors, of_current = self._settled(where, parts), 0.0
            apart = where.from_mean(factors)
            bound = self._bound(apart)
            weights |= dict(zip((update.site for update in counted), factors.tolist(), strict=True))
        adapter, lost = product_mean(current, adapters, factors.tolist(), of_current)
        figures = {
            "norm_bound": bound if bound > NEVER_ZERO else 0.0,
            "num_clipped": float(np.sum(apart > bound * _CLIPPED)),
            "refactoring_error": lost,
        }
        return Combined(weights, adapter, figures)

    def _settled(self, where: Points, parts: Array64) -> Array64:
        return settled_weights(where, parts, from_the_others(where), self._bound)

    def _bound(self, apart: Array64) -> float:
        """The longest pull, above 0, of sites that are ``apart`` from where they pull at."""
        if self.around == "result" and len(apart) < self.needs.num_sites:
            return max(float(apart.max()), NEVER_ZERO)  # of a round that others are absent from: the mean
        # By number and not by weight: a site with half of the weight would be the middle by itself.
        return max(float(self.bound) or lower_median(apart), NEVER_ZERO)


RULE = NormClipping
