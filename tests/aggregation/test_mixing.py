"""Mixing weights learned on validation examples, with losses that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedmedlora.aggregation.mixing import learn_weights
from fedmedlora.aggregation.needs import Mixing
from fedmedlora.aggregation.rule import load_rule
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate

CURRENT = Adapter({"x": np.zeros(2, np.float32)})


def update(site, values, tokens=10):
    return SiteUpdate(site, 1, Adapter({"x": np.array(values, np.float32)}), CURRENT.hash(), tokens)


class Bowl:
    """L(x) = |x - target|^2 / 2, gradient x - target."""

    def __init__(self, *target):
        self.target = np.array(target)
        self.calls = 0

    def __call__(self, adapter):
        self.calls += 1
        gradient = adapter.arrays["x"] - self.target
        return float(gradient @ gradient / 2), Adapter({"x": gradient.astype(np.float32)})


GOOD, BAD = update("good", [1.0, 0.0]), update("bad", [0.0, 1.0])
HOW = Mixing(steps=30, rate=1.0, gamma=1.0)


def test_the_weights_that_give_the_lowest_loss_are_found():
    # The mean of (1, 0) and (0, 1) with weight w is (w, 1 - w); nearest to (0.8, 0.2) at w = 0.8.
    weights = learn_weights(CURRENT, [BAD, GOOD], HOW, Bowl(0.8, 0.2))
    assert list(weights) == ["bad", "good"]
    assert weights["good"] == pytest.approx(0.8, abs=0.01)
    assert sum(weights.values()) == pytest.approx(1.0)


def test_a_site_that_only_harms_loses_nearly_all_weight():
    weights = learn_weights(CURRENT, [GOOD, BAD], HOW, Bowl(1.0, 0.0))
    assert weights["bad"] < 0.02


def test_the_loss_never_gets_worse_than_at_the_start_and_few_probes_are_made():
    for target in ((0.5, 0.5), (0.51, 0.49), (3.0, -2.0)):
        bowl = Bowl(*target)
        how = Mixing(steps=4, rate=50.0, gamma=1.0)  # far too long a step
        weights = learn_weights(CURRENT, [GOOD, BAD], how, bowl)
        assert bowl.calls <= 5
        mixed = Adapter({"x": np.array([weights["good"], weights["bad"]], np.float32)})
        assert bowl(mixed)[0] <= bowl(Adapter({"x": np.array([0.5, 0.5], np.float32)}))[0] + 1e-9


def test_one_site_equal_sites_and_a_site_without_data():
    bowl = Bowl(9.0, 9.0)
    assert learn_weights(CURRENT, [GOOD], HOW, bowl) == {"good": 1.0}
    assert bowl.calls == 1  # there is nothing to choose
    same = [update("a", [1.0, 2.0]), update("b", [1.0, 2.0])]
    assert learn_weights(CURRENT, same, HOW, bowl) == {"a": 0.5, "b": 0.5}
    idle = learn_weights(CURRENT, [GOOD, BAD, update("idle", [9.0, 9.0], tokens=0)], HOW, bowl)
    assert idle["idle"] == 0.0


def test_sizes_are_where_it_starts():
    # No step helps: the optimum is where sizes 30 and 10 put it.
    weights = learn_weights(
        CURRENT, [update("a", [1.0, 0.0], 30), update("b", [0.0, 1.0], 10)], HOW, Bowl(0.75, 0.25)
    )
    assert weights == {"a": pytest.approx(0.75), "b": pytest.approx(0.25)}


def test_a_loss_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="on the validation notes is nan"):
        learn_weights(CURRENT, [GOOD, BAD], HOW, lambda adapter: (float("nan"), adapter))


def test_the_rule_takes_what_was_learned():
    rule = load_rule("fed_medlora_plus", {"weigh": "learned"})
    assert rule.needs.mixing == Mixing(6, 1.0, 1.0)
    assert not rule.needs.losses
    updates = [replace(GOOD, mixing_weight=0.6), replace(BAD, mixing_weight=0.2)]
    assert rule.weights(updates) == {"bad": pytest.approx(0.25), "good": pytest.approx(0.75)}
    alone = [replace(GOOD, mixing_weight=0.3)]
    assert rule.aggregate(CURRENT, alone) == GOOD.adapter
    for weight in (None, float("nan"), -1.0):
        with pytest.raises(ValueError, match="'good' has mixing weight"):
            rule.weights([replace(GOOD, mixing_weight=weight)])
    with pytest.raises(ValueError, match="every mixing weight is 0"):
        rule.weights([replace(GOOD, mixing_weight=0.0)])
    for settings in ({"weigh": "x"}, {"steps": 0}, {"steps": 1.5}, {"rate": 0.0}):
        with pytest.raises(ValueError, match="rule fed_medlora_plus"):
            load_rule("fed_medlora_plus", settings)


def test_no_power_and_no_rate_is_too_large():
    """10^6 tokens to the power 100, and e to the power 10^5, are beyond any float."""
    sites = [update("large", [1.0, 0.0], 10**6), update("small", [0.0, 1.0], 10**3)]
    steep = learn_weights(CURRENT, sites, Mixing(steps=1, rate=1e-9, gamma=100.0), Bowl(0.5, 0.5))
    assert steep["large"] == pytest.approx(1.0, abs=1e-5)
    far = learn_weights(CURRENT, [GOOD, BAD], Mixing(steps=3, rate=1e5, gamma=1.0), Bowl(1.0, 0.0))
    assert far["good"] == pytest.approx(1.0, abs=1e-5)
