"""The temperature of Fed-MedLoRA+, searched for on losses that can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fedmedlora.aggregation.needs import Search
from fedmedlora.aggregation.rule import load_rule
from fedmedlora.aggregation.searching import by_utility, search_weights
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate

CURRENT = Adapter({"x": np.zeros(1, np.float32)})
HOW = Search((0.1,), 1.0)


def update(site, value, loss, tokens=10):
    found = SiteUpdate(site, 1, Adapter({"x": np.array([value], np.float32)}), CURRENT.hash(), tokens)
    return replace(found, validation_loss=loss)


class Valley:
    """L(x) = |x - lowest|."""

    def __init__(self, lowest):
        self.lowest, self.asked = lowest, []

    def __call__(self, adapters):
        self.asked.append(sorted(adapters))
        return {name: abs(float(a.arrays["x"][0]) - self.lowest) for name, a in adapters.items()}


# exp(-0.1 ln 3 / 0.1) = 1/3: the better site has 3/4 of the weight at tau = 0.1, half of it without.
GOOD, BAD = update("good", 1.0, 0.2), update("bad", 0.0, 0.2 + 0.1 * math.log(3))


def test_the_formula_by_hand():
    losses = {"a": 0.2, "b": 0.2 + 0.1 * math.log(3)}
    assert by_utility({"a": 10, "b": 10}, losses, gamma=1.0, tau=0.1) == {
        "a": pytest.approx(0.75),
        "b": pytest.approx(0.25),
    }
    # b is three times as large, which makes up for it; squared, it is 9 to 3
    assert by_utility({"a": 10, "b": 30}, losses, gamma=1.0, tau=0.1)["a"] == pytest.approx(0.5)
    assert by_utility({"a": 10, "b": 30}, losses, gamma=2.0, tau=0.1)["a"] == pytest.approx(0.25)
    assert by_utility({"a": 10, "b": 30}, losses, gamma=1.0, tau=math.inf) == {"a": 0.25, "b": 0.75}
    assert by_utility({"a": 0, "b": 30}, losses, gamma=0.0, tau=0.1) == {"a": 0.0, "b": 1.0}
    assert by_utility({"a": 1, "b": 1}, {"a": 0.0, "b": 1e300}, gamma=1.0, tau=1e-300) == {"a": 1.0, "b": 0.0}


@pytest.mark.parametrize(("lowest", "share"), [(0.5, 0.5), (0.6, 0.5), (0.7, 0.75), (2.0, 0.75)])
def test_the_mean_of_the_lowest_loss_is_taken(lowest, share):
    weights = search_weights(CURRENT, [GOOD, BAD], HOW, Valley(lowest))
    assert list(weights) == ["bad", "good"]
    assert weights["good"] == pytest.approx(share)


def test_of_equal_losses_the_milder_temperature_wins():
    flat = search_weights(CURRENT, [GOOD, BAD], HOW, lambda means: dict.fromkeys(means, 1.0))
    assert flat == {"bad": 0.5, "good": 0.5}


def test_a_mean_without_a_loss_is_passed_over():
    def all_but_one(means):
        return {name: math.nan if name == "tau inf" else 5.0 for name in means}

    assert search_weights(CURRENT, [GOOD, BAD], HOW, all_but_one)["good"] == pytest.approx(0.75)
    with pytest.raises(ValueError, match=r"no mean .* finite loss"):
        search_weights(CURRENT, [GOOD, BAD], HOW, lambda means: dict.fromkeys(means, math.inf))


def test_nothing_is_measured_where_there_is_nothing_to_choose():
    valley = Valley(0.0)
    assert search_weights(CURRENT, [GOOD], HOW, valley) == {"good": 1.0}
    equal = [replace(GOOD, site="a"), replace(GOOD, site="b")]
    assert search_weights(CURRENT, equal, HOW, valley) == {"a": 0.5, "b": 0.5}
    assert valley.asked == []
    search_weights(CURRENT, [GOOD, BAD], Search((0.1, 0.3), 1.0), valley)
    assert valley.asked == [["tau 0.1", "tau 0.3", "tau inf"]]  # all at once


def test_a_site_without_data_and_one_without_a_loss():
    idle = update("idle", 9.0, 0.0, tokens=0)
    assert search_weights(CURRENT, [GOOD, BAD, idle], HOW, Valley(9.0))["idle"] == 0.0
    for loss in (None, math.nan, math.inf):
        with pytest.raises(ValueError, match="validation loss"):
            search_weights(CURRENT, [GOOD, replace(BAD, validation_loss=loss)], HOW, Valley(0.0))


def test_the_rule_asks_for_it_and_takes_what_was_found():
    rule = load_rule("fed_medlora_plus", {"weigh": "searched", "gamma": 2.0})
    assert rule.needs.losses
    assert rule.needs.search == Search((0.3, 0.1, 0.03), 2.0)
    assert rule.needs.mixing is None
    updates = [replace(GOOD, mixing_weight=0.6), replace(BAD, mixing_weight=0.2)]
    assert rule.weights(updates) == {"bad": pytest.approx(0.25), "good": pytest.approx(0.75)}
    with pytest.raises(ValueError, match="'good' has mixing weight None"):
        rule.weights([GOOD])
