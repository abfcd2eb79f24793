"""Krum: the one adapter that has the nearest neighbours becomes the next adapter.

    score(i) = sum of the n - f - 2 smallest |W_i - W_j|^2, j other than i;   the lowest score is taken

Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine Tolerant Gradient
Descent", NeurIPS 2017, https://arxiv.org/abs/1703.02757. f sites may be bad; n > 2 f + 2 sites are
needed for that. Departs in two things: distances are those of what sites add to the model (``products.py``),
and of equal scores the site first by name is taken.

Nothing is averaged, so nothing has to be put back into a rank, and no site can spoil a mean. The price is
that one site's notes make the whole round: where sites differ, the others' are not learned from
(``multi_krum.py`` averages a few).

A round of fewer than 2 f + 3 sites is taken with the largest f that it has enough of. Of one or two sites
none can be told from the rest: they are averaged, each the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fedmedlora.aggregation.check import check_alike, check_fit, check_updates
from fedmedlora.aggregation.combined import Combined
from fedmedlora.aggregation.needs import Needs
from fedmedlora.aggregation.product_mean import product_mean
from fedmedlora.aggregation.products import Array64, points
from fedmedlora.aggregation.shares import check_count
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.exchange.update import SiteUpdate

NUM_BAD_MEANING = "sites of a round that may be bad, 0 or more (f); a round needs 2 f + 3 sites"


@dataclass(frozen=True, slots=True)
class Krum:
    """``num_bad``: f."""

    num_bad: int = field(default=1, metadata={"meaning": NUM_BAD_MEANING})

    def __post_init__(self) -> None:
        check_count("krum", "num_bad", self.num_bad, 0)

    @property
    def needs(self) -> Needs:
        """2 f + 3 sites."""
        return Needs(num_sites=2 * self.num_bad + 3)

    @property
    def local(self) -> Local:
        """Plain training; both factors travel."""
        return Local()

    def fold(self, current: Adapter) -> None:
        """Scores are known when all updates are there."""

    def weights(self, updates: Sequence[SiteUpdate]) -> dict[str, float]:
        """1 for the site that is taken, 0 for the others; sorted by site.

        Raises ValueError for what ``check_updates`` and ``check_alike`` refuse.
        """
        ordered = check_updates(updates)
        check_alike(ordered)
        chosen, _ = ranked(ordered, self.num_bad)
        return weights_of(ordered, _taken(chosen))

    def aggregate(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
        """See ``combine``."""
        return self.combine(current, updates).adapter

    def combine(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Combined:
        """The adapter of the lowest score; figure ``num_bad``: the f that the round had enough sites for.

        Raises ValueError for what ``check_updates`` and ``check_fit`` refuse.
        """
        ordered = check_updates(updates)
        check_fit(current, ordered)
        chosen, num_bad = ranked(ordered, self.num_bad)
        return combined(current, ordered, _taken(chosen), num_bad)


def ranked(updates: Sequence[SiteUpdate], num_bad: int) -> tuple[list[SiteUpdate], int]:
    """(the updates of sites that trained on anything, the lowest score first; the f that they are enough
    for).

    ``updates``: checked, and sorted by site.
    """
    counted = [update for update in updates if update.num_target_tokens]
    num_bad = min(num_bad, max(0, (len(counted) - 3) // 2))
    found = scores(points([update.adapter for update in counted]).apart(), num_bad)
    return [counted[i] for i in np.argsort(found, kind="stable")], num_bad


def scores(apart: Array64, num_bad: int) -> Array64:
    """Krum's score of each of n points whose distances are ``apart`` (n, n)."""
    num_nearest = max(1, len(apart) - num_bad - 2)
    nearest = np.sort(apart**2, axis=1)[:, 1 : 1 + num_nearest]  # the first is the point itself
    found: Array64 = nearest.sum(axis=1)
    return found


def weights_of(updates: Sequence[SiteUpdate], chosen: Sequence[SiteUpdate]) -> dict[str, float]:
    """The same weight for each of ``chosen``, 0 for the others; in the order of ``updates``."""
    names = {update.site for update in chosen}
    return {update.site: (update.site in names) / len(names) for update in updates}


def combined(
    current: Adapter, updates: Sequence[SiteUpdate], chosen: Sequence[SiteUpdate], num_bad: int
) -> Combined:
    """The mean of ``chosen``, each the same. ``updates``: sorted by site."""
    # By name: a mean must not depend on which of two scores is the lower.
    adapters = [update.adapter for update in sorted(chosen, key=lambda update: update.site)]
    adapter, lost = product_mean(current, adapters, [1.0 / len(adapters)] * len(adapters))
    figures = {"num_bad": float(num_bad), "refactoring_error": lost}
    return Combined(weights_of(updates, chosen), adapter, figures)


def _taken(chosen: Sequence[SiteUpdate]) -> Sequence[SiteUpdate]:
    return chosen[:1] if len(chosen) > 2 else chosen


RULE = Krum
