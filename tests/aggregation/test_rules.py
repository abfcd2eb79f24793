"""Weights and means worked by hand, and finding a rule by name."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fedmedlora.aggregation.fed_medlora import FedMedLora
from fedmedlora.aggregation.fed_medlora_plus import FedMedLoraPlus
from fedmedlora.aggregation.mean import weighted_mean
from fedmedlora.aggregation.rule import known_rules, load_rule
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate


def adapter(*values):
    return Adapter({"w": np.array(values, dtype=np.float32)})


CURRENT = adapter(0.0, 0.0)


def update(site, tokens, loss=None, values=(0.0, 0.0)):
    return SiteUpdate(site, 1, adapter(*values), CURRENT.hash(), tokens, loss)


def test_fed_medlora_by_hand():
    # n = 100, 300: weights 1/4, 3/4; first value 4/4 + 0 = 1, second 8/4 + 4*3/4 = 5
    updates = [update("b", 300, values=(0.0, 4.0)), update("a", 100, values=(4.0, 8.0))]
    rule = FedMedLora()
    assert rule.weights(updates) == {"a": 0.25, "b": 0.75}
    assert list(rule.weights(updates)) == ["a", "b"]
    assert rule.aggregate(CURRENT, updates) == adapter(1.0, 5.0)
    assert not rule.needs.validation


def test_a_site_that_trained_on_nothing_has_no_weight():
    updates = [update("a", 0, 0.0, (9.0, 9.0)), update("b", 5, 3.0, (-0.0, 1.0))]
    for rule in (FedMedLora(), FedMedLoraPlus(), FedMedLoraPlus(gamma=0.0)):
        assert rule.weights(updates) == {"a": 0.0, "b": 1.0}
        assert rule.aggregate(CURRENT, updates) == adapter(-0.0, 1.0)  # also the sign of zero


def test_fed_medlora_plus_by_hand():
    # L = 0 and ln 3, gamma 0, tau 1: 1 against 1/3, so 3/4 and 1/4.
    updates = [update("a", 100, 0.0), update("b", 600, math.log(3))]
    assert FedMedLoraPlus(gamma=0.0).weights(updates) == pytest.approx({"a": 0.75, "b": 0.25})
    # gamma 1: 100 against 600/3 = 200, so 1/3 and 2/3.
    assert FedMedLoraPlus().weights(updates) == pytest.approx({"a": 1 / 3, "b": 2 / 3})
    # gamma 0.5, tau 0.5: 1 against sqrt(6)/9.
    expected = 1 / (1 + math.sqrt(6) / 9)
    assert FedMedLoraPlus(gamma=0.5, tau=0.5).weights(updates)["a"] == pytest.approx(expected)


def test_equal_losses_leave_the_sizes_to_decide():
    updates = [update("a", 100, 2.5), update("b", 300, 2.5)]
    assert FedMedLoraPlus().weights(updates) == pytest.approx({"a": 0.25, "b": 0.75})
    assert FedMedLoraPlus(gamma=0.0).weights(updates) == {"a": 0.5, "b": 0.5}


def test_huge_losses_do_not_underflow():
    # exp(-2000) is 0 in floating point; relative to the best it is 1 against exp(-1).
    updates = [update("a", 7, 2000.0), update("b", 7, 2001.0)]
    found = FedMedLoraPlus().weights(updates)
    assert found["a"] == pytest.approx(1 / (1 + math.exp(-1)))
    assert FedMedLoraPlus(tau=5e-324).weights(updates) == {"a": 1.0, "b": 0.0}
    extreme = [update("a", 1, 1e308), update("b", 2**53, -1e308)]
    assert FedMedLoraPlus(gamma=100.0, tau=1e-300).weights(extreme) == {"a": 0.0, "b": 1.0}


def test_a_best_loss_on_very_little_does_not_underflow():
    # log weights: a = 100 ln(2^-53) = -3673.7, b = -4000: both exp are 0, but a is e^326 times b.
    updates = [update("a", 1, 0.0), update("b", 2**53, 4000.0)]
    assert FedMedLoraPlus(gamma=100.0).weights(updates) == pytest.approx({"a": 1.0, "b": 0.0})


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (None, "'b' has no validation loss; name validation notes under .validation."),
        (math.nan, "validation loss of 'b' is nan; it must be finite"),
        (math.inf, "validation loss of 'b' is inf"),
    ],
)
def test_a_missing_or_broken_loss_is_refused(loss, message):
    with pytest.raises(ValueError, match=message):
        FedMedLoraPlus().weights([update("a", 1, 1.0), update("b", 1, loss)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": -0.1}, r"gamma must lie in \[0, 100\], got -0.1"),
        ({"gamma": 101}, r"gamma must lie in \[0, 100\]"),
        ({"gamma": math.nan}, "gamma must be a finite number"),
        ({"gamma": True}, "gamma must be a finite number"),
        ({"tau": 0}, "tau must be above 0, got 0"),
        ({"tau": math.inf}, "tau must be a finite number"),
        ({"tau": "1"}, "tau must be a finite number, got '1'"),
        ({"gama": 1.0}, "unknown setting 'gama'; did you mean gamma\\?; its settings: gamma, tau"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        load_rule("fed_medlora_plus", settings)


def test_rules_are_found_by_file_name():
    rules = {"fed_medlora", "fed_medlora_plus", "fedavg_full", "fedprox", "fedsa_lora", "ffa_lora"}
    robust = {"norm_clipping", "krum", "multi_krum", "geometric_median", "trimmed_mean", "coordinate_median"}
    assert known_rules() == tuple(sorted(rules | robust))
    assert load_rule("fed_medlora") == FedMedLora()
    assert load_rule("fed_medlora_plus", {"gamma": 0, "tau": 2.0}) == FedMedLoraPlus(0, 2.0)


@pytest.mark.parametrize("name", ["rule", "mean", "check", "os", "..mean", "__init__", "", "fed_medlora.R"])
def test_nothing_else_is_a_rule(name):
    with pytest.raises(ValueError, match="known rules: coordinate_median, fed_medlora, fed_medlora_plus"):
        load_rule(name)


def test_a_misspelt_rule_names_the_nearest():
    with pytest.raises(ValueError, match="unknown rule 'fedmedlora_plus'; did you mean fed_medlora_plus"):
        load_rule("fedmedlora_plus")
    with pytest.raises(ValueError, match="rule fed_medlora: unknown setting 'tau'; it has no settings"):
        load_rule("fed_medlora", {"tau": 1.0})


def test_the_mean_is_taken_in_float64():
    # 2^24 + 1 is no float32: with float32 sums the third of three would be lost.
    values = [(2.0**24, 0.0), (2.0, 0.0), (2.0, 0.0)]
    updates = [update(f"s{i}", 1, values=v) for i, v in enumerate(values)]
    found = weighted_mean(CURRENT, updates, {"s0": 0.5, "s1": 0.25, "s2": 0.25})
    assert found.arrays["w"][0] == np.float32(2.0**23 + 1)
    assert found.arrays["w"].dtype == np.float32


def test_updates_of_sites_whose_names_differ_in_case_are_two_sites():
    updates = [update("a", 1), update("A", 1)]
    assert FedMedLora().weights(updates) == {"A": 0.5, "a": 0.5}
    with pytest.raises(ValueError, match="two updates"):
        FedMedLora().weights([updates[0], replace(updates[0], num_target_tokens=2)])
