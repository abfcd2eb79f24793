import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora.evaluation import bootstrap
from fedmedlora.evaluation.bootstrap import MIN_NOTES, f1_interval
from fedmedlora.evaluation.counts import Counts

COUNTS = st.builds(Counts, *(st.integers(0, 5) for _ in range(3)))


def rng(seed=0):
    return np.random.default_rng(seed)


def one_at_a_time(per_note, generator, num_resamples=1000):
    """The same, without arrays."""
    scores = []
    for _ in range(num_resamples):
        drawn = generator.integers(len(per_note), size=len(per_note))
        f1 = sum((per_note[i] for i in drawn), Counts()).f1
        if f1 is not None:
            scores.append(f1)
    return tuple(np.percentile(scores, [2.5, 97.5]))


@settings(max_examples=25, deadline=None)
@given(st.lists(COUNTS, min_size=5, max_size=12), st.integers(0, 99))
def test_equals_the_plain_loop(per_note, seed):
    found = f1_interval(per_note, rng=rng(seed), num_resamples=100)
    if sum(counts != Counts() for counts in per_note) < 6:
        assert found is None
    else:
        assert found == pytest.approx(one_at_a_time(per_note, rng(seed), 100))


def test_nothing_and_one_note_have_no_interval():
    assert f1_interval([], rng=rng()) is None
    assert f1_interval([Counts(3, 1, 1)], rng=rng()) is None


def test_undefined_f1_has_no_interval():
    assert f1_interval([Counts(), Counts()], rng=rng()) is None


def test_equal_notes_leave_no_doubt():
    # each note: 2/(2+1+1) = 0.5, and so is every resample
    assert f1_interval([Counts(1, 1, 1)] * 7, rng=rng()) == (0.5, 0.5)


def test_fewer_than_six_notes_with_anything_to_count_have_no_interval():
    # the range of n values holds the median in 1 - 2^(1-n) of samples: of five 0.9375, of six 0.96875
    assert 1 - 2 ** (1 - (MIN_NOTES - 1)) < 0.95 <= 1 - 2 ** (1 - MIN_NOTES)
    lone = [Counts(2, 1, 1), *[Counts()] * 400]  # 4 / (4 + 1 + 1), whatever is drawn: it had no width
    assert f1_interval(lone, rng=rng()) is None
    five = [Counts(1, 0, 0), Counts(0, 1, 0), Counts(0, 0, 1), Counts(1, 1, 0), Counts(2, 0, 1)]
    assert f1_interval([*five, *[Counts()] * 400], rng=rng()) is None
    low, high = f1_interval([*five, Counts(0, 1, 1), Counts()], rng=rng())
    assert low < 8 / 14 < high  # tp 4, fp 3, fn 3


def test_six_notes_of_which_three_are_opposite_span_much():
    # F1 = 2k / (2k + 2 (6 - k)) = k/6 when k of the six drawn are right: k is binomial (6, 1/2), 0 in
    # 1/64 = 1.6 % of draws and at most 1 in 10.9 %, so that the 2.5 % lie at 1/6, and at 5/6 from above
    per_note = [Counts(1, 0, 0)] * 3 + [Counts(0, 1, 1)] * 3
    assert f1_interval(per_note, rng=rng(), num_resamples=20_000) == pytest.approx((1 / 6, 5 / 6))


def test_resamples_without_anything_are_left_out():
    # six notes of sixty hold everything: a resample has F1 1 or, 0.9^60 = 0.2 % of the time, none at all
    assert f1_interval([Counts(4, 0, 0)] * 6 + [Counts()] * 54, rng=rng(), num_resamples=4000) == (1.0, 1.0)


def test_one_resample_that_draws_nothing_gives_no_interval():
    # a single resample of 60 notes misses the six that count in 0.2 % of the seeds
    per_note = [Counts(1, 0, 0)] * 6 + [Counts()] * 54
    found = {f1_interval(per_note, rng=rng(seed), num_resamples=1) for seed in range(2000)}
    assert found == {None, (1.0, 1.0)}


def test_same_seed_same_interval_and_the_generator_is_used():
    per_note = [Counts(i % 4, 1, i % 3) for i in range(30)]
    assert f1_interval(per_note, rng=rng(1)) == f1_interval(per_note, rng=rng(1))
    assert f1_interval(per_note, rng=rng(1)) != f1_interval(per_note, rng=rng(2))


def test_agrees_with_the_normal_approximation():
    # 400 notes with one gold item each, found exactly or not at all (p = 0.8): F1 = 2p/(1+p) = 0.889;
    # delta method: dF1/dp = 2/(1+p)^2 = 0.617, sd(p) = sqrt(0.8 * 0.2 / 400) = 0.02,
    # so the interval is about 0.889 +- 1.96 * 0.0123
    low, high = f1_interval([Counts(1, 0, 0)] * 320 + [Counts(0, 0, 1)] * 80, rng=rng())
    assert low == pytest.approx(0.8648, abs=0.004)
    assert high == pytest.approx(0.9130, abs=0.004)


def test_level_sets_the_width():
    per_note = [Counts(i % 4, 1, i % 3) for i in range(30)]
    narrow = f1_interval(per_note, rng=rng(), level=0.5)
    wide = f1_interval(per_note, rng=rng(), level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_memory_is_bounded_and_the_blocks_change_nothing(monkeypatch):
    per_note = [Counts(i % 4, 1, i % 3) for i in range(30)]
    whole = f1_interval(per_note, rng=rng(), num_resamples=101)
    monkeypatch.setattr(bootstrap, "_MAX_DRAWS", 100)  # 3 resamples of 30 notes at a time
    assert f1_interval(per_note, rng=rng(), num_resamples=101) == whole
    monkeypatch.setattr(bootstrap, "_MAX_DRAWS", 1)  # fewer than one resample: one at a time
    assert f1_interval(per_note, rng=rng(), num_resamples=101) == whole


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_resamples": 0}, "num_resamples must be 1 or more, got 0"),
        ({"level": 95}, "level must be between 0 and 1, got 95"),
        ({"level": 0.0}, "level must be between 0 and 1"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        f1_interval([Counts(1, 0, 0)] * 2, rng=rng(), **settings)


def test_five_thousand_notes_are_fast():
    per_note = [Counts(i % 4, 1, i % 3) for i in range(5000)]
    started = time.perf_counter()
    assert f1_interval(per_note, rng=rng()) is not None
    assert time.perf_counter() - started < 3.0  # about 0.1 s
