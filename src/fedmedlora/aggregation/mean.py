"""Weights by data size, and the weighted mean of the sites' adapters, the same in whatever order they come.

The mean of one number is ``float32(float64(S) / float64(W))`` with ``S = sum of w_k * x_k``, each term
rounded to float64 by itself and their sum correctly rounded, and ``W = sum of w_k``. ``MeanSoFar`` holds S
exactly (``exact_sum.py``) and takes one adapter after the other. ``weighted_mean`` has them all, and adds up
in plain float64: that differs from S by no more than a bound, which hardly ever reaches a place where float32
rounds the other way, and where it does, S is found exactly. Both give the same bits.

float64 carries 29 bits more than float32, so equal values come back equal, subnormals included. Sites of
weight 0 are left out: -0.0 stays -0.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fedmedlora.aggregation.check import check_fit, check_one, check_sizes, check_updates
from fedmedlora.aggregation.exact_sum import ExactSum
from fedmedlora.exchange.adapter import Adapter, refuse_non_finite
from fedmedlora.exchange.update import SiteUpdate

Array = npt.NDArray[np.float32]
_BLOCK = 1 << 14  # numbers worked on at once, of
_TOGETHER = 16  # sites at once: in float64 they fit a core's own cache


def by_size(updates: Sequence[SiteUpdate]) -> dict[str, float]:
    """Site -> its share of all supervised target tokens, sorted by site. Errors as in ``check_updates``."""
    return _shares({update.site: update.num_target_tokens for update in check_updates(updates)})


def mean_by_size(current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
    """The mean weighted by supervised target tokens. Errors as in ``weighted_mean``."""
    return weighted_mean(current, updates, {u.site: u.num_target_tokens for u in updates})


def weighted_mean(current: Adapter, updates: Sequence[SiteUpdate], weights: Mapping[str, float]) -> Adapter:
    """``sum over sites of weights[site] * adapter``, divided by the sum of the weights, which need not be 1.

    Raises ValueError for what ``check_updates`` and ``check_fit`` refuse.
    """
    ordered = check_updates(updates)
    check_fit(current, ordered)
    counted = [update for update in ordered if weights[update.site] > 0]
    assert counted, "among the weights there is a positive one"
    by = [weights[update.site] for update in counted]
    return Adapter({name: mean_of([u.adapter.arrays[name] for u in counted], by) for name in current.arrays})


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


class MeanSoFar:
    """The mean of adapters that come one by one: 16 bytes a parameter, however many they are."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """``shapes``: of the adapters' arrays, by name."""
        self._sums = {name: ExactSum(shape) for name, shape in shapes.items()}
        self._weights: list[float] = []

    def add(self, adapter: Adapter, weight: float) -> None:
        """Fold ``adapter`` in; ``weight`` is above 0."""
        assert weight > 0
        for name, array in adapter.arrays.items():
            self._sums[name].add(array, weight)
        self._weights.append(weight)

    def mean(self) -> Adapter:
        """The mean of all that were added, at least one."""
        total = _total(self._weights)
        # asarray: numpy turns the quotient of a 0-d array into a scalar
        found = {name: np.asarray(each.total() / total) for name, each in self._sums.items()}
        return Adapter({name: array.astype(np.float32) for name, array in found.items()})


def mean_of(arrays: Sequence[Array], weights: Sequence[float]) -> Array:
    """The weighted mean of ``arrays``, equal in shape; ``weights`` are above 0."""
    total, by = _total(weights), np.array(weights, np.float64)
    # K terms added up in any order are wrong by (K - 1) 2^-53 of the sum of their sizes at most, to first
    # order (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 4.2); each term's own
    # rounding, that of S and the two divisions by 2^-53 each. Twice that, for what is left out here.
    sizes = math.fsum(weight * _largest(array) for array, weight in zip(arrays, weights, strict=True))
    wrong = 2.0 * (len(arrays) + 4) * 2.0**-53 * sizes / total
    found = np.empty(arrays[0].shape, np.float32)
    flat, sites = found.reshape(-1), [array.reshape(-1) for array in arrays]
    room = np.empty((min(len(sites), _TOGETHER), min(flat.size, _BLOCK)))
    places = []
    for start in range(0, flat.size, _BLOCK):
        out = flat[start : start + _BLOCK]
        sums = _plain_sum([site[start : start + _BLOCK] for site in sites], by, room[:, : len(out)])
        np.divide(sums, total, out=sums)
        np.copyto(out, sums, casting="same_kind")
        with np.errstate(over="ignore"):  # beside the largest float32
            other = (sums - wrong).astype(np.float32) != (sums + wrong).astype(np.float32)
        # A plain sum of -0.0 alone has lost its sign.
        places.append(start + np.flatnonzero(other | (sums == 0.0)))
    doubtful = np.concatenate(places)
    if len(doubtful):
        exact = ExactSum((len(doubtful),))
        for site, weight in zip(sites, weights, strict=True):
            exact.add(site[doubtful], weight)
        flat[doubtful] = (exact.total() / total).astype(np.float32)
    return found


def _plain_sum(
    blocks: Sequence[Array], weights: npt.NDArray[np.float64], room: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    sums: npt.NDArray[np.float64] = np.zeros(len(blocks[0]))
    for start in range(0, len(blocks), _TOGETHER):
        group = blocks[start : start + _TOGETHER]
        for row, block in zip(room, group, strict=False):
            np.copyto(row, block)
        sums += weights[start : start + _TOGETHER] @ room[: len(group)]
    return sums


def _largest(array: Array) -> float:
    return max(float(array.max()), -float(array.min()))


def _shares(sizes: Mapping[str, int]) -> dict[str, float]:
    total = sum(sizes.values())
    return {site: size / total for site, size in sizes.items()}


def _total(weights: Sequence[float]) -> float:
    """Their sum, correctly rounded, whatever their order."""
    return float(sum(weights)) if all(isinstance(w, int) for w in weights) else math.fsum(weights)
