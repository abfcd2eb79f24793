"""Weights by data size, and the weighted mean of the sites' adapters, exact where it must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fedmedlora.aggregation.check import check_fit, check_updates
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate


def by_size(updates: Sequence[SiteUpdate]) -> dict[str, float]:
    """Site -> its share of all supervised target tokens, sorted by site. Errors as in ``check_updates``."""
    ordered = check_updates(updates)
    total = sum(update.num_target_tokens for update in ordered)
    return {update.site: update.num_target_tokens / total for update in ordered}


def weighted_mean(current: Adapter, updates: Sequence[SiteUpdate], weights: Mapping[str, float]) -> Adapter:
    """``sum over sites of weights[site] * adapter``, in float64, rounded once to float32.

    float64 carries 29 bits more than float32, so equal values come back equal in spite of weights that
    sum to 1 only to rounding, subnormals included. The sum starts with the first site's term, not with
    0.0, and sites of weight 0 are left out: -0.0 stays -0.0.

    Raises ValueError for what ``check_updates`` and ``check_fit`` refuse.
    """
    ordered = check_updates(updates)
    check_fit(current, ordered)
    counted = [update for update in ordered if weights[update.site] > 0.0]
    assert counted, "weights that sum to 1 include a positive one"
    arrays: dict[str, np.ndarray] = {}
    for name in current.arrays:
        total = weights[counted[0].site] * counted[0].adapter.arrays[name].astype(np.float64)
        for update in counted[1:]:
            total += weights[update.site] * update.adapter.arrays[name].astype(np.float64)
        # asarray: numpy turns the product of a 0-d array into a scalar
        arrays[name] = np.asarray(total).astype(np.float32)
    return Adapter(arrays)
