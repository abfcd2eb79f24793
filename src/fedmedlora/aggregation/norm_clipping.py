"""Norm clipping: no site moves the model further than the middle one does.

    W' = W_0 + sum_k w_k * min(1, bound / |D_k|) * D_k,   D_k = B_k A_k - B_0 A_0 of all pairs together

Sun et al., "Can You Really Backdoor Federated Learning?", https://arxiv.org/abs/1911.07963,
where the bound is a number. Departs in three things: norms are those of what the model is changed by and not
of B and A apart (``products.py``); by default the bound is the median of the round's norms, which needs no
tuning; and what comes of it is put back into rank r (``product_mean.py``).

Withstands size, not direction: among n sites fewer than half, however large they claim to be, move the model
by their weights times the bound at most. That much of the wrong direction comes through, every round. Weights
are by data size, which sites say themselves: where they are not to be believed, ``weigh = "equal"``.

Law 2 is broken by design where ``bound`` is given: a site alone that goes further is clipped too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fedmedlora.aggregation.check import check_fit, check_updates
from fedmedlora.aggregation.combined import Combined
from fedmedlora.aggregation.needs import Needs
from fedmedlora.aggregation.product_mean import product_mean
from fedmedlora.aggregation.products import lower_median, points
from fedmedlora.aggregation.shares import WEIGH_MEANING, check_weigh, shares
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.exchange.update import SiteUpdate


@dataclass(frozen=True, slots=True)
class NormClipping:
    """``bound``: the largest norm of a change, in units of B A without alpha / r; 0: the median of the
    round."""

    bound: float = field(
        default=0.0,
        metadata={
            "meaning": "largest norm that a site's change of all products B A may have, 0 or above; 0: the "
            "median of the norms of the round"
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
        norms = points([current, *(update.adapter for update in counted)]).apart()[0, 1:]
        bound = float(self.bound) or lower_median(norms)
        kept = [1.0 if norm <= bound else bound / float(norm) for norm in norms]
        by = [weights[update.site] for update in counted]
        adapter, lost = product_mean(
            current,
            [update.adapter for update in counted],
            [weight * factor for weight, factor in zip(by, kept, strict=True)],
            math.fsum(weight * (1.0 - factor) for weight, factor in zip(by, kept, strict=True)),
        )
        return Combined(
            weights,
            adapter,
            {
                "norm_bound": bound,
                "num_clipped": float(sum(factor < 1.0 for factor in kept)),
                "refactoring_error": lost,
            },
        )


RULE = NormClipping
