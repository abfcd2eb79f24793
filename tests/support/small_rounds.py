"""Rounds small enough to be worked by hand: sites that send one number, or one pair of factors."""

from __future__ import annotations

import numpy as np

from fedmedlora.aggregation.rule import combine, load_rule
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate

A, B = "m.lora_A.weight", "m.lora_B.weight"
FIVE = [0, 1, 2, 4, 100]


def plain(value):
    """An adapter of one array that is no factor."""
    return Adapter({"w": np.array([value], np.float32)})


def pair(b, a):
    return Adapter({A: np.array(a, np.float32), B: np.array(b, np.float32)})


def updates(current, adapters, tokens=None):
    """Sites a, b, c, ..., all of 10 tokens if nothing is said."""
    names = "abcdefghij"[: len(adapters)]
    tokens = tokens or [10] * len(adapters)
    return [
        SiteUpdate(name, 1, one, current.hash(), num)
        for name, one, num in zip(names, adapters, tokens, strict=True)
    ]


def of_numbers(rule, numbers, *, current=0.0, tokens=None, settings=None):
    """What the rule makes of sites that send one number each: (the number, weights, figures)."""
    now = plain(current)
    found = combine(load_rule(rule, settings), now, updates(now, [plain(n) for n in numbers], tokens))
    return float(found.adapter.arrays["w"][0]), found.weights, found.figures


def product(adapter):
    return adapter.arrays[B].astype(np.float64) @ adapter.arrays[A].astype(np.float64)
