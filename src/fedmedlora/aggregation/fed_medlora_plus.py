"""Fed-MedLoRA+: a site counts for more when its adapter helps on the coordinator's validation set.

    w_k  ~  n_k^gamma * exp(-L_k / tau),   scaled to sum to 1

Li et al., "A Federated and Parameter-Efficient Framework for Large Language Model Training in
Medicine", https://arxiv.org/abs/2601.22124. n_k: supervised target tokens of site k's examples; L_k:
mean loss of its adapter on the validation set. The published code is gamma = 0, tau = 1 (utility alone);
the paper's text weighs size as well as utility, hence the default gamma = 1, tau = 1.

Departs in one thing: a site that trained on nothing (n_k = 0) has weight 0 under every gamma, where the
formula at gamma = 0 would read 0^0 = 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fedmedlora.aggregation.check import check_updates
from fedmedlora.aggregation.mean import weighted_mean
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate

MAX_GAMMA = 100.0


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

    def __post_init__(self) -> None:
        for name, value in (("gamma", self.gamma), ("tau", self.tau)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"rule fed_medlora_plus: {name} must be a finite number, got {value!r}")
        if not 0.0 <= self.gamma <= MAX_GAMMA:
            raise ValueError(f"rule fed_medlora_plus: gamma must lie in [0, 100], got {self.gamma!r}")
        if not self.tau > 0.0:
            raise ValueError(f"rule fed_medlora_plus: tau must be above 0, got {self.tau!r}")

    @property
    def needs_validation(self) -> bool:
        """True: every update carries the coordinator's validation loss."""
        return True

    def weights(self, updates: Sequence[SiteUpdate]) -> dict[str, float]:
        """Site -> weight, sorted by site.

        Raises ValueError for a validation loss that is missing, NaN or infinite, and for what
        ``check_updates`` refuses.
        """
        ordered = check_updates(updates)
        losses = {update.site: _loss(update) for update in ordered}
        sizes = {update.site: update.num_target_tokens for update in ordered if update.num_target_tokens}
        # Logarithms relative to the best loss and the largest size: neither exp nor a tiny tau can
        # overflow, and the site of the best loss always keeps a finite logarithm.
        best, largest = min(losses[site] for site in sizes), max(sizes.values())
        logs = {
            site: self.gamma * math.log(size / largest) - (losses[site] - best) / self.tau
            for site, size in sizes.items()
        }
        top = max(logs.values())
        raw = {site: math.exp(log - top) for site, log in logs.items()}
        total = math.fsum(raw.values())
        return {site: raw.get(site, 0.0) / total for site in losses}

    def aggregate(self, current: Adapter, updates: Sequence[SiteUpdate]) -> Adapter:
        """The weighted mean of the sites' adapters. Raises ValueError: see ``weights``, ``weighted_mean``."""
        return weighted_mean(current, updates, self.weights(updates))


def _loss(update: SiteUpdate) -> float:
    loss = update.validation_loss
    if loss is None:
        raise ValueError(
            f"rule fed_medlora_plus: the update of {update.site!r} has no validation loss; "
            "name validation notes under [validation] in the study file"
        )
    if not math.isfinite(loss):
        raise ValueError(
            f"rule fed_medlora_plus: the validation loss of {update.site!r} is {loss}; it must be finite. "
            "The site's training diverged: try a lower learning_rate"
        )
    return loss


RULE = FedMedLoraPlus
