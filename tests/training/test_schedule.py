from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest

from fedmedlora.training.schedule import learning_rate, round_of_examples, steps_per_round


def rates(schedule: str, warmup: int, total: int) -> list[float]:
    return [
        learning_rate(step, peak=2.0, warmup_steps=warmup, total_steps=total, schedule=schedule)
        for step in range(total)
    ]


def test_cosine_by_hand():
    # Warm-up over 2 of 6 steps, then cos at 0, 1/4, 1/2, 3/4 of half a turn, between 2.0 and a tenth of it:
    # 0.2 + 1.8 * (1 + cos) / 2, with cos = 1, 0.7071, 0, -0.7071.
    assert rates("cosine", 2, 6) == pytest.approx([1.0, 2.0, 2.0, 1.7364, 1.1, 0.4636], abs=1e-4)


def test_constant_by_hand():
    assert rates("constant", 4, 6) == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


def test_no_warmup_and_longer_warmup_than_training():
    assert rates("cosine", 0, 1) == [2.0]
    assert rates("cosine", 10, 2) == pytest.approx([0.2, 0.4])


@pytest.mark.parametrize("warmup", [0, 3, 50])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_never_zero_never_above_the_peak(schedule, warmup):
    assert all(0 < rate <= 2.0 for rate in rates(schedule, warmup, 40))


def test_steps_per_round_by_hand():
    def steps(num, *, size=4, fixed=0, passes=1):
        return steps_per_round(num, examples_per_step=size, steps_per_round=fixed, passes_per_round=passes)

    assert steps(8) == 2
    assert steps(9) == 3
    assert steps(1) == 1
    assert steps(9, passes=2) == 5  # 18 examples, 4 at a time
    assert steps(9, fixed=7) == 7


def draw(items, num, round_num, seed=0, site="a"):
    return round_of_examples(items, num=num, round_num=round_num, seed=seed, site=site)


@pytest.mark.parametrize(("num_items", "num"), [(5, 5), (5, 2), (5, 3), (3, 7), (1, 4), (7, 7)])
def test_every_example_equally_often_and_rounds_are_consecutive(num_items, num):
    items = list(range(num_items))
    rounds = [draw(items, num, r) for r in range(1, num_items + 1)]
    assert all(len(one) == num for one in rounds)
    # num_items rounds of num are num whole passes.
    sequence = [item for one in rounds for item in one]
    assert Counter(sequence) == dict.fromkeys(items, num)
    for start in range(0, len(sequence), num_items):  # and each pass holds each example once
        assert sorted(sequence[start : start + num_items]) == items
    # Cut elsewhere, it is the same sequence.
    assert sequence == draw(items, len(sequence), 1)


def test_order_depends_on_seed_site_and_pass():
    items = list(range(20))
    first = draw(items, 20, 1)
    assert first == draw(items, 20, 1)
    assert first != items
    assert len({tuple(first), tuple(draw(items, 20, 2)), tuple(draw(items, 20, 1, seed=1))}) == 3
    assert first != draw(items, 20, 1, site="b")


def test_nothing_and_repeated_examples():
    assert draw([], 5, 1) == []
    assert draw([1, 2], 0, 1) == []
    same = [Fraction(1), Fraction(1), Fraction(2)]  # two equal examples are two examples
    assert sorted(draw(same, 3, 1)) == same
