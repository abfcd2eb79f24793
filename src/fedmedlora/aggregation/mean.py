"""Weights by data size, and the weighted mean of the sites' adapters, the same in whatever order they come.

The mean of one number is ``float32(float64(S) / float64(W))`` with ``S = sum of w_k * x_k``, each term
rounded to float64 by itself and their sum correctly rounded, and ``W = sum of w_k``. Adapters that are all in
memory are averaged at once (``at_once.py``), those that come one by one are folded in and let go of
(``one_by_one.py``). Both give the same bits.

float64 carries 29 bits more than float32, so equal values come back equal, subnormals included. Sites of
weight 0 are left out: -0.0 stays -0.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fedmedlora.aggregation.at_once import means_of
from fedmedlora.aggregation.check import check_fit, check_one, check_sizes, check_updates
from fedmedlora.aggregation.one_by_one import MeanSoFar
from fedmedlora.exchange.adapter import Adapter, refuse_non_finite
from fedmedlora.exchange.update import SiteUpdate


def by_size(updates: Sequence[SiteUpdate]) -> dict[str, float]:
    """Site -> its share of all supervised target tokens, sorted by site. Errors as in ``check_updates``."""
    return _shares({update.site: update.num_target_tokens for update in check_updates(updates)})


def alike(updates: Sequence[SiteUpdate]) -> dict[str, float]:
    """Site -> the same share for all that trained on anything, 0 for the rest; sorted. Errors as there."""
    sizes = {update.site: update.num_target_tokens for update in check_updates(updates)}
    return _shares({site: int(size > 0) for site, size in sizes.items()})


def mean_by_size(current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
    """The mean weighted by supervised target tokens. Errors as in ``weighted_mean``."""
    return weighted_mean(current, updates, {u.site: u.num_target_tokens for u in updates})


def weighted_mean(current: Adapter, updates: Sequence[SiteUpdate], weights: Mapping[str, float]) -> Adapter:
    """``sum over sites of weights[site] * adapter``, divided by the sum of the weights, which need not be 1.

    Raises ValueError for what ``check_updates`` and ``check_fit`` refuse.
    """
    ordered = check_updates(updates)
    by = {update.site: weights[update.site] for update in ordered}
    assert all(math.isfinite(weight) and weight >= 0 for weight in by.values()), "weights are shares"
    assert any(by.values()), "among the weights there is a positive one"
    if any(update.adapter.is_stored for update in ordered):
        return _read_one_by_one(current, ordered, by)
    check_fit(current, ordered)
    counted = [update for update in ordered if by[update.site] > 0]
    return Adapter(means_of([u.adapter.arrays for u in counted], [by[u.site] for u in counted]))


class FoldBySize:
    """The mean weighted by supervised target tokens, of updates that come one by one; see ``rule.Fold``."""

    def __init__(self, current: Adapter) -> None:
        """``current``: see ``Rule.aggregate``."""
        refuse_non_finite(current, "current adapter")
        self._expected, self._shapes = current.hash(), current.shapes()
        self._found: list[tuple[str, int, int]] = []
        self._mean = MeanSoFar(self._shapes)

    def add(self, update: SiteUpdate) -> None:
        """Fold ``update`` in. Raises ValueError for what ``check_fit`` refuses."""
        check_one(self._expected, self._shapes, update)
        self._found.append((update.site, update.round_num, update.num_target_tokens))
        if update.num_target_tokens:
            self._mean.add(update.adapter, update.num_target_tokens)

    def finish(self) -> tuple[dict[str, float], Adapter]:
        """The weights, sorted by site, and the mean. Raises ValueError for what ``check_updates`` refuses."""
        ordered = sorted(self._found)
        check_sizes(ordered)
        return _shares({site: num_tokens for site, _, num_tokens in ordered}), self._mean.mean()


def _read_one_by_one(current: Adapter, ordered: Sequence[SiteUpdate], by: Mapping[str, float]) -> Adapter:
    """The mean of adapters that memory may not hold together (``exchange/spill.py``): the same bits."""
    refuse_non_finite(current, "current adapter")
    expected, shapes = current.hash(), current.shapes()
    mean = MeanSoFar(shapes)
    for update in ordered:
        one = replace(update, adapter=update.adapter.loaded())
        check_one(expected, shapes, one)
        if by[one.site] > 0:
            mean.add(one.adapter, by[one.site])
    return mean.mean()


def _shares(sizes: Mapping[str, int]) -> dict[str, float]:
    total = sum(sizes.values())
    return {site: size / total for site, size in sizes.items()}
