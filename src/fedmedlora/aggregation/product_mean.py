"""The weighted mean of what sites add to the model: of products B A, put back into the rank of the adapter.

Averaging B and A apart, as Fed-MedLoRA does, is no mean of products, and no rule that is to withstand a bad
site may do it. The bad site may send (-B, -A): its product, and with it its distance from the others, is that
of an honest site, and in the mean of the factors it takes the place of one of them away; or (c B, A / c) with
a large c. In the mean of the products both count for what they add.

So laws 2 and 3 of ``rule.py`` hold because nothing is refactored that need not be: one site alone, and a pair
that is the same at all sites, stay as they are, bit for bit. All else is ``refactor.combination``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fedmedlora.aggregation.at_once import mean_of
from fedmedlora.aggregation.products import layout
from fedmedlora.aggregation.refactor import Array32, combination
from fedmedlora.exchange.adapter import Adapter


def product_mean(
    current: Adapter, adapters: Sequence[Adapter], shares: Sequence[float], of_current: float = 0.0
) -> tuple[Adapter, float]:
    """(the adapter that adds ``of_current * current + sum of share * adapter``, what its rank could not
    hold).

    ``shares`` and ``of_current`` are not negative and sum to 1; who has 0 is left out. The second is a share
    of the change of the refactored products, from 0 to 1: see ``lost_share``. Other arrays are averaged as
    they are. Shapes are equal, values finite.
    """
    counted = [(one, share) for one, share in zip(adapters, shares, strict=True) if share > 0]
    if of_current > 0 or not counted:
        counted.append((current, of_current or 1.0))
    pairs, others = layout(current.shapes())
    by = [share for _, share in counted]
    found: dict[str, Array32] = {}
    lost = changed = 0.0
    for pair in pairs:
        factors = [(one.arrays[pair.b], one.arrays[pair.a]) for one, _ in counted]
        if all_alike(factors):
            found[pair.b], found[pair.a] = factors[0]
            continue
        mean = combination(by, factors, (current.arrays[pair.b], current.arrays[pair.a]))
        found[pair.b], found[pair.a] = mean.b, mean.a
        lost, changed = lost + mean.lost, changed + mean.changed
    for name in others:
        found[name] = mean_of([one.arrays[name] for one, _ in counted], by)
    return Adapter(found), lost_share(lost, changed)


def all_alike(factors: Sequence[tuple[Array32, Array32]]) -> bool:
    """Whether all pairs are the same, bit for bit."""
    (b, a), *rest = [(b.view(np.int32), a.view(np.int32)) for b, a in factors]
    return all(np.array_equal(b, other_b) and np.array_equal(a, other_a) for other_b, other_a in rest)


def lost_share(lost: float, changed: float) -> float:
    """The distance of the new products from what was asked for, over the distance from those of now to that.

    Both are given as squares. 0: nothing is lost. It is at most 1, for the products of now are of rank r too,
    and the nearest are no further.
    """
    return min(1.0, math.sqrt(lost / changed)) if changed > 0 else 0.0
