"""A bad site in a small federation that learns a matrix of rank 2 by its factors, site by site, round by
round.

Each site has examples of its own of y = W x and noise, and trains from the adapter of now to the end. Good
sites bring an error e down to that of the noise. A site that sends ``factor`` times its change leaves the
mean of five with an error of (1 - factor) / 5 times e: 0.4 e for -1, -1.8 e for 10 and 2.2 e for -10, so that
the last two grow from round to round.
"""

from __future__ import annotations

import numpy as np
import pytest
from attacks import flipped, scaled

from fedmedlora.aggregation.rule import load_rule
from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate

A, B = "m.lora_A.weight", "m.lora_B.weight"
ROBUST = ("norm_clipping", "krum", "multi_krum", "geometric_median", "trimmed_mean", "coordinate_median")
D_OUT, D_IN, RANK, NUM_SITES = 6, 5, 2, 5


def adapter(b, a):
    return Adapter({A: a.astype(np.float32), B: b.astype(np.float32)})


def product(one):
    return one.arrays[B].astype(np.float64) @ one.arrays[A].astype(np.float64)


def train(current, x, y):
    """Least squares by B, then by A, three times."""
    a = current.arrays[A].astype(np.float64)
    for _ in range(3):
        z = a @ x
        b = np.linalg.solve(z @ z.T, z @ y.T).T
        a = np.linalg.pinv(b) @ y @ np.linalg.pinv(x)
    return adapter(b, a)


def error_after(rule, factor, num_rounds=6, settings=None):
    """Distance of the product from W, as a share of W, after all rounds; the last site is the bad one."""
    rng = np.random.default_rng(7)
    wanted = rng.normal(size=(D_OUT, RANK)) @ rng.normal(size=(RANK, D_IN))
    data = []
    for _ in range(NUM_SITES):
        x = rng.normal(size=(D_IN, 40))
        data.append((x, wanted @ x + 0.05 * rng.normal(size=(D_OUT, 40))))
    current = adapter(np.zeros((D_OUT, RANK)), rng.normal(size=(RANK, D_IN)))
    for round_num in range(1, num_rounds + 1):
        trained = [train(current, x, y) for x, y in data]
        trained[-1] = scaled(current, trained[-1], factor)
        sent = [SiteUpdate(f"s{i}", round_num, t, current.hash(), 40) for i, t in enumerate(trained)]
        current = load_rule(rule, settings).aggregate(current, sent)
    return float(np.linalg.norm(product(current) - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("rule", ["fed_medlora", *ROBUST])
def test_without_a_bad_site_all_learn(rule):
    assert error_after(rule, 1.0) < 0.02


@pytest.mark.parametrize("factor", [10.0, -10.0])
@pytest.mark.parametrize("rule", ROBUST)
def test_a_scaled_change_is_withstood(rule, factor):
    assert error_after(rule, factor) < 0.03


@pytest.mark.parametrize("factor", [10.0, -10.0])
def test_a_scaled_change_drives_the_mean_away(factor):
    assert error_after("fed_medlora", factor) > 5


@pytest.mark.parametrize("rule", ROBUST)
def test_a_flipped_sign_slows_nobody(rule):
    assert error_after(rule, -1.0, 1) < 0.02


def test_a_flipped_sign_slows_the_mean_and_who_judges_size_alone():
    # One round from nothing: a mean of products is left with 0.4 of the error, clipped once too; and the mean
    # of the factors with as much, more or less.
    once = error_after("norm_clipping", -1.0, 1, settings={"around": "current"})
    assert once == pytest.approx(0.4, abs=0.02)
    assert error_after("fed_medlora", -1.0, 1) > 0.2


def test_a_scaled_change_is_what_it_says():
    rng = np.random.default_rng(0)
    before = adapter(rng.normal(size=(30, 4)), rng.normal(size=(4, 20)))
    after = adapter(
        before.arrays[B] + 0.05 * rng.normal(size=(30, 4)), before.arrays[A] + 0.01 * rng.normal(size=(4, 20))
    )
    change = product(after) - product(before)
    for factor in (-1.0, 10.0):
        found = product(scaled(before, after, factor)) - product(before)
        # What is put into the rank loses little.
        assert np.linalg.norm(found - factor * change) < 0.3 * np.linalg.norm(factor * change)
        assert np.vdot(found, change) * factor > 0
    np.testing.assert_allclose(product(scaled(before, after, 1.0)), product(after), atol=1e-5)
    # From the untrained adapter it is exact.
    start = adapter(np.zeros((30, 4)), before.arrays[A])
    np.testing.assert_allclose(product(scaled(start, after, -1.0)), -product(after), atol=1e-5)
    head = Adapter({"w": np.array([1.0, 2.0], np.float32)}), Adapter({"w": np.array([2.0, 2.0], np.float32)})
    assert scaled(*head, -3.0) == Adapter({"w": np.array([-2.0, 2.0], np.float32)})


def test_flipped_labels_are_all_wrong():
    annotates = Annotates(frozenset({"drug", "problem", "test"}), frozenset({"problem.negation"}))
    note = Note(
        "n", "no pain, aspirin", (Entity("1", "problem", ((3, 7),)), Entity("2", "drug", ((9, 16),))),
        (Entity("3", "negation", ((0, 2),)),), (Link("1", "3"),), annotates,
    )  # fmt: skip
    (found,) = flipped([note])
    assert [(e.type, e.span) for e in found.entities] == [("test", ((3, 7),)), ("problem", ((9, 16),))]
    assert (found.modifiers, found.links, found.annotates) == ((), (), annotates)
    assert found.text_hash() == note.text_hash()
