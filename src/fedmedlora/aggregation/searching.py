"""Weights by utility, and the temperature that is best on validation examples.

    w_k(tau)  ~  n_k^gamma * exp(-L_k / tau)

is Fed-MedLoRA+ (Li et al., https://arxiv.org/abs/2601.22124). How sharply losses should tell sites apart
depends on how much they say, which nobody knows before: too mild, and a site with wrong labels is averaged
in; too sharp, and one lucky site speaks for all. So several temperatures are tried, and the one is taken
whose *mean* of the adapters has the lowest validation loss. Infinity, the mean by size alone, is among
them: on the validation examples the result is never worse than Fed-MedLoRA's.

A search along one line through all possible weights cannot fit the validation examples as closely as
weights that are free (``mixing.py``), which is what a small validation set wants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from fedmedlora.aggregation.check import check_updates
from fedmedlora.aggregation.mean import weighted_mean
from fedmedlora.aggregation.needs import Search
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate

# Adapters by any name -> their losses on the validation examples, by the same names.
Losses = Callable[[Mapping[str, Adapter]], Mapping[str, float]]

TEMPERATURES = (0.3, 0.1, 0.03)


def by_utility(
    sizes: Mapping[str, int], losses: Mapping[str, float], *, gamma: float, tau: float
) -> dict[str, float]:
    """Site -> weight, in the order of ``losses``. ``tau`` may be infinite: sizes alone decide then.

    A site of size 0 has weight 0; one at least has another size.
    """
    counted = {site: size for site, size in sizes.items() if size}
    # Logarithms relative to the best loss and the largest size: neither exp nor a tiny tau can
    # overflow, and the site of the best loss always keeps a finite logarithm.
    best, largest = min(losses[site] for site in counted), max(counted.values())
    logs = {
        site: gamma * math.log(size / largest) - (losses[site] - best) / tau for site, size in counted.items()
    }
    top = max(logs.values())
    raw = {site: math.exp(log - top) for site, log in logs.items()}
    total = math.fsum(raw.values())
    return {site: raw.get(site, 0.0) / total for site in losses}


def search_weights(
    current: Adapter, updates: Sequence[SiteUpdate], how: Search, validate: Losses
) -> dict[str, float]:
    """Site -> weight, sorted by site. Every update has its ``validation_loss``.

    ``validate`` is called once, with the means to choose from; where there is nothing to choose, not at all.
    Of equal losses the milder temperature wins. Raises ``ValueError`` for what ``weighted_mean`` refuses, for
    an update without a finite loss, and where no mean has one.
    """
    ordered = check_updates(updates)
    sizes = {u.site: u.num_target_tokens for u in ordered}
    losses = {u.site: finite_loss(u) for u in ordered}
    choices: dict[str, dict[str, float]] = {}
    for tau in (math.inf, *sorted(how.taus, reverse=True)):
        weights = by_utility(sizes, losses, gamma=how.gamma, tau=tau)
        if weights not in choices.values():
            choices[f"tau {tau:g}"] = weights
    if len(choices) == 1:
        return next(iter(choices.values()))
    found = validate({name: weighted_mean(current, updates, by) for name, by in choices.items()})
    finite = [name for name in choices if math.isfinite(found[name])]
    if not finite:
        raise ValueError(
            "no mean of the sites' adapters has a finite loss on the validation notes; lower learning_rate"
        )
    return choices[min(finite, key=lambda name: found[name])]  # the first of equal ones, the mildest


def finite_loss(update: SiteUpdate) -> float:
    """The update's validation loss. Raises ``ValueError`` where it is missing, NaN or infinite."""
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
