"""Geometric median: the point whose distances to the sites' adapters add up to the least.

    minimize  sum_k a_k |W - B_k A_k|  over W

Pillutla, Kakade, Harchaoui, "Robust Aggregation for Federated Learning" (RFA), IEEE Transactions on Signal
Processing 70 (2022), https://arxiv.org/abs/1912.13445: smoothed Weiszfeld steps

    w_k  ~  a_k / max(nu, |W - B_k A_k|),   W = sum_k w_k B_k A_k,   scaled to sum to 1

Departs in four things. Distances are those of what sites add to the model, and every W on the way is a mean
of products, so that steps cost nothing and go on until the weights stand still (``reweighting.py``). nu is a
share of a distance between sites and not a number. The start is not the mean, which a bad site has moved, but
weighs each site by how near the middle one of the others is. And the last W is put back into rank r
(``product_mean.py``).

Withstands sites that have less than half of the weight: wherever they are, W stays within a few times the
distance that the good ones are apart. With ``weigh = "equal"`` that is fewer than half of the sites; under
"size", which the paper uses, less than half of the data that sites *say* they have, so one that lies about it
breaks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fedmedlora.aggregation.check import check_alike, check_fit, check_updates
from fedmedlora.aggregation.combined import Combined
from fedmedlora.aggregation.needs import Needs
from fedmedlora.aggregation.product_mean import product_mean
from fedmedlora.aggregation.products import Array64, Points, points
from fedmedlora.aggregation.reweighting import NEVER_ZERO, from_the_others, settled_weights
from fedmedlora.aggregation.shares import WEIGH_MEANING, check_weigh, shares
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.exchange.update import SiteUpdate

SMOOTHING = 1e-6  # nu, as a share of the distance to the middle one of the others


@dataclass(frozen=True, slots=True)
class GeometricMedian:
    """``weigh``: what a_k is."""

    weigh: str = field(default="equal", metadata={"meaning": WEIGH_MEANING})

    def __post_init__(self) -> None:
        check_weigh("geometric_median", self.weigh)

    @property
    def needs(self) -> Needs:
        """Three sites: of two none is in the minority."""
        return Needs(num_sites=3)

    @property
    def local(self) -> Local:
        """Plain training; both factors travel."""
        return Local()

    def fold(self, current: Adapter) -> None:
        """Distances are known when all updates are there."""

    def weights(self, updates: Sequence[SiteUpdate]) -> dict[str, float]:
        """Site -> w_k of the last step, sorted by site. Raises ValueError for what ``check_updates`` refuses,
        and for arrays that differ in names or shapes or are not finite."""
        ordered = check_updates(updates)
        check_alike(ordered)
        return self._weights(ordered)

    def aggregate(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
        """See ``combine``."""
        return self.combine(current, updates).adapter

    def combine(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Combined:
        """The geometric median; figure ``refactoring_error``.

        Raises ValueError for what ``check_updates`` and ``check_fit`` refuse.
        """
        ordered = check_updates(updates)
        check_fit(current, ordered)
        weights = self._weights(ordered)
        adapters = [update.adapter for update in ordered]
        adapter, lost = product_mean(current, adapters, list(weights.values()))
        return Combined(weights, adapter, {"refactoring_error": lost})

    def _weights(self, ordered: Sequence[SiteUpdate]) -> dict[str, float]:
        weights = shares(self.weigh, ordered)
        counted = [update for update in ordered if weights[update.site] > 0]
        where = points([update.adapter for update in counted])
        found = median_weights(where, np.array([weights[update.site] for update in counted]))
        return weights | dict(zip((update.site for update in counted), found.tolist(), strict=True))


def median_weights(where: Points, parts: Array64) -> Array64:
    """Weights that sum to 1 of the points ``where``: their mean is their geometric median, each counted by
    ``parts``, above 0."""
    start = from_the_others(where)
    # The least of all sites: fewer than half of them cannot move it away from what the others have.
    near = max(SMOOTHING * float(start.min()), NEVER_ZERO)
    return settled_weights(where, parts, start, lambda apart: near)


RULE = GeometricMedian
