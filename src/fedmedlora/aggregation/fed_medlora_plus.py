"""Fed-MedLoRA+: a site counts for more when its adapter helps on the coordinator's validation set.

    w_k  ~  n_k^gamma * exp(-L_k / tau),   scaled to sum to 1

Li et al., "A Federated and Parameter-Efficient Framework for Large Language Model Training in
Medicine", https://arxiv.org/abs/2601.22124. n_k: supervised target tokens of site k's examples; L_k:
mean loss of its adapter on the validation set. The published code is gamma = 0, tau = 1 (utility alone);
the paper's text weighs size as well as utility, hence the default gamma = 1.

``weigh = "searched"`` tries several tau and takes the one whose mean of the adapters has the lowest
validation loss (``searching.py``). ``weigh = "learned"`` departs further: the weights are found by descent
on the validation loss of the mean itself (``mixing.py``), starting at n_k^gamma, instead of from the losses
of the single adapters.

Departs in one thing: a site that trained on nothing (n_k = 0) has weight 0 under every gamma, where the
formula at gamma = 0 would read 0^0 = 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fedmedlora.aggregation.check import check_updates
from fedmedlora.aggregation.mean import weighted_mean
from fedmedlora.aggregation.needs import Mixing, Needs, Search
from fedmedlora.aggregation.searching import TEMPERATURES, by_utility, finite_loss
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.exchange.update import SiteUpdate

MAX_GAMMA = 100.0
_WAYS = ("losses", "searched", "learned")


@dataclass(frozen=True, slots=True)
class FedMedLoraPlus:
    """``gamma``: power of the size, 0 (size does not matter) to 100. ``tau``: temperature of the loss, > 0.

    A small ``tau`` gives nearly all weight to the best site; a large one lets sizes decide.
    """

    gamma: float = field(
        default=1.0,
        metadata={"meaning": "power of a site's number of target tokens: 0 (size is ignored) to 100"},
    )
    tau: float = field(
        default=1.0,
        metadata={"meaning": "temperature of the validation loss, above 0: small favours the best site"},
    )

    weigh: str = field(
        default="losses",
        metadata={
            "meaning": '"losses": by the formula; "searched": by the formula, at the tau (infinite, 0.3, 0.1 '
            'or 0.03) whose mean has the lowest validation loss; "learned": by descent on the validation '
            "loss of the mean, from n_k^gamma. tau is used by losses alone"
        },
    )
    steps: int = field(default=6, metadata={"meaning": "learned: steps of the descent, 1 to 100"})
    rate: float = field(
        default=1.0,
        metadata={"meaning": "learned: how far a step goes; 1 lets two sites' weights part by a factor e"},
    )

    def __post_init__(self) -> None:
        if self.weigh not in _WAYS:
            allowed = ", ".join(f'"{way}"' for way in _WAYS)
            raise ValueError(
                f"rule fed_medlora_plus: weigh must be one of {allowed}, got {str(self.weigh)[:40]!r}"
            )
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or not 1 <= self.steps <= 100:
            raise ValueError(
                f"rule fed_medlora_plus: steps must be a whole number, 1 to 100, got {self.steps!r}"
            )
        for name, value in (("gamma", self.gamma), ("tau", self.tau), ("rate", self.rate)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"rule fed_medlora_plus: {name} must be a finite number, got {value!r}")
        if not 0.0 <= self.gamma <= MAX_GAMMA:
            raise ValueError(f"rule fed_medlora_plus: gamma must lie in [0, 100], got {self.gamma!r}")
        for name, value in (("tau", self.tau), ("rate", self.rate)):
            if not value > 0.0:
                raise ValueError(f"rule fed_medlora_plus: {name} must be above 0, got {value!r}")

    @property
    def needs(self) -> Needs:
        """A validation loss of every site's adapter, or a mixing weight that was learned."""
        if self.weigh == "learned":
            return Needs(mixing=Mixing(self.steps, float(self.rate), float(self.gamma)))
        if self.weigh == "searched":
            return Needs(losses=True, search=Search(TEMPERATURES, float(self.gamma)))
        return Needs(losses=True)

    @property
    def local(self) -> Local:
        """Plain training; both factors travel."""
        return Local()

    def fold(self, current: Adapter) -> None:
        """Weights are known when all updates are there and validated."""

    def weights(self, updates: Sequence[SiteUpdate]) -> dict[str, float]:
        """Site -> weight, sorted by site.

        Raises ValueError for a validation loss that is missing, NaN or infinite, and for what
        ``check_updates`` refuses.
        """
        ordered = check_updates(updates)
        if self.weigh != "losses":
            return _found(ordered)
        losses = {update.site: finite_loss(update) for update in ordered}
        sizes = {update.site: update.num_target_tokens for update in ordered}
        return by_utility(sizes, losses, gamma=self.gamma, tau=self.tau)

    def aggregate(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
        """The weighted mean of the sites' adapters. Raises ValueError: see ``weights``, ``weighted_mean``."""
        return weighted_mean(current, updates, self.weights(updates))


def _found(ordered: Sequence[SiteUpdate]) -> dict[str, float]:
    raw: dict[str, float] = {}
    for update in ordered:
        weight = update.mixing_weight
        if weight is None or not math.isfinite(weight) or weight < 0:
            raise ValueError(
                f"rule fed_medlora_plus: the update of {update.site!r} has mixing weight {weight!r}; it is "
                "found on validation notes, which [validation] must name"
            )
        raw[update.site] = weight if update.num_target_tokens else 0.0
    total = math.fsum(raw.values())
    if total <= 0.0:
        raise ValueError("rule fed_medlora_plus: every mixing weight is 0")
    return {site: weight / total for site, weight in raw.items()}


RULE = FedMedLoraPlus
