"""Mixing weights of the sites, learned on validation examples.

    minimize  L(sum_k w_k * adapter_k)  over weights w_k >= 0 that sum to 1

by exponentiated gradient descent (Kivinen and Warmuth, Information and Computation 132 (1997) 1-63,
https://doi.org/10.1006/inco.1996.2612): w_k is multiplied by exp(-rate * g_k / scale), g_k = dL/dw_k =
<dL/dadapter, adapter_k>, and all are scaled to sum to 1 again. One forward and backward pass gives g_k of
all sites at once, whatever their number. ``scale`` is the spread of the first g, so that ``rate`` has no
unit; a step that makes the loss worse is taken back and the rate halved (a line search). The weights of
the lowest loss seen are returned.

Learning the weights of an average on a validation set: the idea of Wortsman et al., "Model soups",
https://arxiv.org/abs/2203.05482, appendix I, and of Li et al., "Revisiting Weighted Aggregation in
Federated Learning", https://arxiv.org/abs/2302.10911.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fedmedlora.aggregation.mean import weighted_mean
from fedmedlora.aggregation.needs import Mixing
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate

# An adapter -> its loss on the validation examples, and the loss's gradient by the adapter's arrays.
Probe = Callable[[Adapter], tuple[float, Adapter]]

_LEAST = 1e-6  # share that a weight never falls below, so that a site can come back in a later step


def learn_weights(
    current: Adapter, updates: Sequence[SiteUpdate], how: Mixing, probe: Probe
) -> dict[str, float]:
    """Site -> weight, sorted by site. ``probe`` is called ``how.steps + 1`` times at most.

    The start is by data size, n_k^gamma; a site that trained on nothing stays at 0. Raises ``ValueError``
    for what ``weighted_mean`` refuses, and for a loss at the start that is not finite.
    """
    largest = max((u.num_target_tokens for u in updates), default=0)  # relative to it no power is too large
    sites = {u.site: (u.num_target_tokens / largest) ** how.gamma for u in updates if u.num_target_tokens}
    absent = {u.site: 0.0 for u in updates if not u.num_target_tokens}
    weights = _scaled(sites)
    loss, gradient = _probe(current, updates, weights | absent, probe)
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss of the sites' mean on the validation notes is {loss}; lower learning_rate"
        )
    best, best_loss, rate = weights, loss, how.rate
    spread = max(gradient.values()) - min(gradient.values())
    for _ in range(how.steps if spread > 0 and len(sites) > 1 else 0):
        lowest = min(gradient[site] for site in sites)  # so that no exponent is above 0
        tried = _scaled(
            {site: best[site] * math.exp(-rate * (gradient[site] - lowest) / spread) for site in sites}
        )
        loss, slope = _probe(current, updates, tried | absent, probe)
        if math.isfinite(loss) and loss < best_loss:
            best, best_loss, gradient = tried, loss, slope
        else:
            rate /= 2
    return dict(sorted((best | absent).items()))


def _probe(
    current: Adapter, updates: Sequence[SiteUpdate], weights: Mapping[str, float], probe: Probe
) -> tuple[float, dict[str, float]]:
    """The loss of the mean, and g_k by site."""
    loss, slope = probe(weighted_mean(current, updates, weights))
    return loss, {u.site: _inner(slope, u.adapter) for u in updates if weights[u.site] > 0}


def _inner(a: Adapter, b: Adapter) -> float:
    return math.fsum(
        float(np.dot(array.ravel().astype(np.float64), b.arrays[name].ravel().astype(np.float64)))
        for name, array in a.arrays.items()
    )


def _scaled(raw: Mapping[str, float]) -> dict[str, float]:
    total = math.fsum(raw.values())
    floored = {site: max(value / total, _LEAST) for site, value in raw.items()}
    total = math.fsum(floored.values())
    return {site: value / total for site, value in floored.items()}
