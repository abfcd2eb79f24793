import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedmedlora.evaluation import bootstrap
from fedmedlora.evaluation.bootstrap import f1_interval
from fedmedlora.evaluation.counts import Counts
from fedmedlora.evaluation.seeds import (
    cells_of,
    difference_interval,
    f1_by_seed,
    f1_interval_over_seeds,
    mean,
    mean_f1,
    mean_f1_of_cohorts,
)

HIT, MISS, EMPTY = (1, 0, 0), (0, 0, 1), (0, 0, 0)


def rng(seed=0):
    return np.random.default_rng(seed)


def cells(*by_seed):
    return np.array(by_seed, dtype=np.int64).reshape(len(by_seed), -1, 3)


@st.composite
def several_cells(draw, num_arrays=1):
    """Arrays of one shape whose gold items agree."""
    num_seeds, num_notes = draw(st.integers(1, 3)), draw(st.integers(5, 12))
    gold = draw(hnp.arrays(np.int64, num_notes, elements=st.integers(0, 3)))
    shape = (num_seeds, num_notes)
    made = []
    for _ in range(num_arrays):
        tp = np.minimum(draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 3))), gold)
        fp = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 2)))
        made.append(np.stack([tp, fp, gold - tp], axis=-1))
    return made


def mean_one_at_a_time(cohorts, drawn_notes, drawn_seeds):
    """The mean over cohorts and drawn seeds, without arrays; None where undefined."""
    by_cohort = []
    for cohort, notes in zip(cohorts, drawn_notes, strict=True):
        by_seed = [sum((Counts(*cohort[s][n].tolist()) for n in notes), Counts()).f1 for s in drawn_seeds]
        by_cohort.append(mean(by_seed))
    return mean(by_cohort)


def num_counted(cohorts):
    """Notes with gold or, under some seed, predictions, in the cohort that has the fewest."""
    return min(sum(any(map(any, note)) for note in cells.swapaxes(0, 1).tolist()) for cells in cohorts)


def plain_loop(methods, generator, num_resamples):
    """Per resample, the mean of each method; the draws in the order in which the fast code takes them."""
    notes = [generator.integers(c.shape[1], size=(num_resamples, c.shape[1])) for c in methods[0]]
    num_seeds = len(methods[0][0])
    seeds = generator.integers(num_seeds, size=(num_resamples, num_seeds))
    return [
        [mean_one_at_a_time(cohorts, [drawn[i] for drawn in notes], seeds[i]) for cohorts in methods]
        for i in range(num_resamples)
    ]


@settings(max_examples=20, deadline=None)
@given(several_cells(), st.integers(0, 99))
def test_equals_the_plain_loop(made, seed):
    cohorts = [made[0], made[0][:, ::-1].copy()]  # the same notes backwards are another cohort
    found = f1_interval_over_seeds(cohorts, rng=rng(seed), num_resamples=40)
    resampled = [row[0] for row in plain_loop([cohorts], rng(seed), 40)]
    if mean_f1_of_cohorts(cohorts) is None or num_counted(cohorts) < 6 or set(resampled) == {None}:
        assert found is None
    else:
        assert found == pytest.approx(np.percentile([m for m in resampled if m is not None], [2.5, 97.5]))


@settings(max_examples=20, deadline=None)
@given(several_cells(num_arrays=2), st.integers(0, 99))
def test_a_difference_equals_the_plain_loop(made, seed):
    a, b = ([one, one[:, 1:]] if one.shape[1] > 6 else [one] for one in made)
    found = difference_interval(a, b, rng=rng(seed), num_resamples=40)
    pairs = [pair for pair in plain_loop([a, b], rng(seed), 40) if None not in pair]
    undefined = None in (mean_f1_of_cohorts(a), mean_f1_of_cohorts(b))
    if undefined or min(num_counted(a), num_counted(b)) < 6 or not pairs:
        assert found is None
    else:
        assert found == pytest.approx(np.percentile([x - y for x, y in pairs], [2.5, 97.5]))


@settings(max_examples=20, deadline=None)
@given(several_cells(), st.integers(0, 99))
def test_one_seed_of_one_cohort_is_the_bootstrap_over_notes(made, seed):
    per_note = [Counts(*row) for row in made[0][0].tolist()]
    expected = f1_interval(per_note, rng=rng(seed), num_resamples=50)
    assert f1_interval_over_seeds([made[0][:1]], rng=rng(seed), num_resamples=50) == expected


def test_the_mean_worked_by_hand():
    # seed 1: two hits, F1 1; seed 2: a hit and a miss, 2/(2+1) = 2/3; mean 5/6
    two_seeds = cells([HIT, HIT], [HIT, MISS])
    assert f1_by_seed(two_seeds) == [1.0, pytest.approx(2 / 3)]
    assert mean_f1(two_seeds) == pytest.approx(5 / 6)
    # and a larger cohort in which nothing is found: 0. Cohorts count the same: 5/12
    assert mean_f1_of_cohorts([two_seeds, cells([MISS] * 9, [MISS] * 9)]) == pytest.approx(5 / 12)


def test_undefined_is_none():
    assert mean_f1(cells([EMPTY, EMPTY])) is None
    assert mean_f1_of_cohorts([]) is None
    assert mean_f1(np.zeros((2, 0, 3), dtype=np.int64)) is None
    # without gold, F1 is 0 under a seed with a false positive and undefined under the other
    assert f1_by_seed(cells([(0, 1, 0)], [EMPTY])) == [0.0, None]
    assert mean_f1(cells([(0, 1, 0)], [EMPTY])) is None


def test_no_interval():
    fine = cells([HIT, MISS] * 3)
    assert f1_interval_over_seeds([fine], rng=rng()) is not None
    assert f1_interval_over_seeds([fine, fine[:, 1:]], rng=rng()) is None  # five notes in one of the cohorts
    # a note counts once it has something under one of the seeds: five and six of eight
    assert f1_interval_over_seeds([cells([HIT] * 5 + [EMPTY] * 3)], rng=rng()) is None
    sixth = cells([HIT] * 5 + [EMPTY] * 3, [HIT] * 5 + [(0, 1, 0)] + [EMPTY] * 2)
    assert f1_interval_over_seeds([sixth], rng=rng()) is not None
    assert f1_interval_over_seeds([], rng=rng()) is None
    assert f1_interval_over_seeds([fine, cells([HIT])], rng=rng()) is None  # a cohort of one note
    assert f1_interval_over_seeds([fine, cells([EMPTY, EMPTY])], rng=rng()) is None
    assert difference_interval([fine], [fine], rng=rng()) is not None
    assert difference_interval([], [], rng=rng()) is None
    # no gold: F1 is 0 under each seed of the first and under one of the second, so many resamples have both
    both, one = cells([(0, 1, 0)] * 6, [(0, 1, 0)] * 6), cells([(0, 1, 0)] * 6, [EMPTY] * 6)
    assert difference_interval([both], [both], rng=rng()) == (0.0, 0.0)
    assert difference_interval([both], [one], rng=rng()) is None
    assert difference_interval([one], [both], rng=rng()) is None
    # without gold a method has notes to count where it says something: six of a, five of b
    six, five = cells([(0, 1, 0)] * 6), cells([(0, 1, 0)] * 5 + [EMPTY])
    assert difference_interval([six], [six], rng=rng()) is not None
    assert difference_interval([six], [five], rng=rng()) is None
    assert difference_interval([five], [six], rng=rng()) is None


def test_seeds_that_differ_on_equal_notes_span_from_the_worst_to_the_best():
    # notes are alike, so only seeds are drawn: F1 1, 2/3 (1 of 2 found) and 0, each alone 1/27 of the time
    gold = [(2, 0, 0), (1, 0, 1), (0, 0, 2)]
    interval = f1_interval_over_seeds([cells(*[[g] * 6 for g in gold])], rng=rng())
    assert interval == (0.0, 1.0)


def test_a_seed_is_drawn_for_all_cohorts_at_once():
    # seed 1 finds all of one cohort and nothing of the other, seed 2 the reverse: the mean is 1/2 for each
    first = cells([HIT] * 6, [MISS] * 6)
    assert f1_interval_over_seeds([first, first[::-1].copy()], rng=rng()) == (0.5, 0.5)


def test_the_same_notes_are_drawn_for_both_methods():
    # F1 moves a lot with the notes that are drawn; a method less itself does not, if both get the same notes
    a = cells([HIT, MISS] * 3, [HIT, HIT, HIT, MISS, HIT, MISS])
    assert difference_interval([a], [a.copy()], rng=rng()) == (0.0, 0.0)
    low, high = f1_interval_over_seeds([a], rng=rng())
    assert high - low > 0.5


def test_a_difference_has_a_sign():
    better, worse = cells([HIT] * 6), cells([MISS] * 6)
    assert difference_interval([better], [worse], rng=rng()) == (1.0, 1.0)
    assert difference_interval([worse], [better], rng=rng()) == (-1.0, -1.0)


def test_resamples_without_anything_are_left_out():
    # all gold is in six notes of sixty: a resample finds one (F1 1) or, 0.9^60 = 0.2 % of the time, has no F1
    rare = [HIT] * 6 + [EMPTY] * 54
    assert f1_interval_over_seeds([cells(rare, rare)], rng=rng(), num_resamples=4000) == (1.0, 1.0)
    found = {f1_interval_over_seeds([cells(rare)], rng=rng(seed), num_resamples=1) for seed in range(2000)}
    assert found == {None, (1.0, 1.0)}


def test_memory_is_bounded_and_the_blocks_change_nothing(monkeypatch):
    made = rng(3).integers(0, 4, size=(1, 30, 3)).repeat(2, axis=0)
    whole = f1_interval_over_seeds([made], rng=rng(), num_resamples=101)
    monkeypatch.setattr(bootstrap, "_MAX_DRAWS", 100)  # 3 resamples of 30 notes at a time
    assert f1_interval_over_seeds([made], rng=rng(), num_resamples=101) == whole


def test_level_and_seed_are_used():
    made = rng(3).integers(0, 4, size=(1, 30, 3))
    narrow, wide = (f1_interval_over_seeds([made], rng=rng(), level=level) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert f1_interval_over_seeds([made], rng=rng(1)) != f1_interval_over_seeds([made], rng=rng(2))


def studies(num_seeds, generator):
    """Cells of one method in 400 studies: recall 0.7, 0.1 more or less under a seed, and 0.2 on a note.

    50 notes of 4 gold items, no false positive: under a seed of recall r, F1 of endless notes is 2r/(1+r).
    """
    for _ in range(400):
        seeds = generator.choice([-0.1, 0.1], size=(num_seeds, 1))
        notes = generator.choice([-0.2, 0.2], size=(1, 50))
        tp = generator.binomial(4, 0.7 + seeds + notes)
        yield np.stack([tp, np.zeros_like(tp), 4 - tp], axis=-1)


TRUE_F1 = (2 * 0.6 / 1.6 + 2 * 0.8 / 1.8) / 2


def test_the_interval_covers_about_95_percent():
    generator = rng(1)
    num_covered = 0
    for made in studies(20, generator):
        low, high = f1_interval_over_seeds([made], rng=generator, num_resamples=200)
        num_covered += low <= TRUE_F1 <= high
    assert 0.92 < num_covered / 400 < 0.98


def test_an_interval_that_forgets_a_source_of_chance_covers_less():
    """What the two levels are for: over notes alone, as if there were no other seeds, it is too narrow."""
    generator = rng(1)
    num_covered = 0
    for made in studies(10, generator):
        pooled = [Counts(*note) for note in made.sum(axis=0).tolist()]
        low, high = f1_interval(pooled, rng=generator, num_resamples=200)
        num_covered += low <= TRUE_F1 <= high
    assert num_covered / 400 < 0.85


def test_three_seeds_of_equal_notes_cover_75_percent():
    # No chance but that of seeds, whose recall is even on 0.6 to 0.8. The interval, [worst, best], misses the
    # true median when all three lie on one side of it, 2 * (1/2)^3 (mean and median F1 differ by 0.002).
    generator = rng(2)
    num_covered = 0
    for _ in range(400):
        tp = np.repeat(generator.integers(600, 801, size=(3, 1)), 6, axis=1)
        made = np.stack([tp, np.zeros_like(tp), 1000 - tp], axis=-1)
        low, high = f1_interval_over_seeds([made], rng=generator, num_resamples=1000)
        num_covered += low <= 2 * 0.7 / 1.7 <= high
    assert 0.70 < num_covered / 400 < 0.80


def test_counts_become_cells():
    made = cells_of([[Counts(1, 2, 3), Counts(0, 0, 4)], [Counts(3, 0, 1), Counts(4, 0, 0)]])
    assert made.tolist() == [[[1, 2, 3], [0, 0, 4]], [[3, 0, 1], [4, 0, 0]]]
    assert made.dtype == np.int64
    assert cells_of([[], []]).shape == (2, 0, 3)


@pytest.mark.parametrize("by_seed", [[], [[Counts()], []]])
def test_seeds_without_the_same_notes_are_refused(by_seed):
    with pytest.raises(ValueError, match="seeds must be at least one, all with the same notes"):
        cells_of(by_seed)


ONE, SIX = cells([HIT, MISS]), cells([HIT, MISS] * 3)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([ONE], [], r"same cohorts, got \[1, 0\] cohorts"),
        ([ONE], [ONE.repeat(2, axis=0)], r"same seeds, got \[1, 2\] of them"),
        ([ONE, ONE.repeat(2, axis=0)], [ONE, ONE], "same seeds"),
        ([ONE, ONE], [ONE, ONE[:, :1]], r"cohort number 2: methods must share its notes, got \[1, 2\] notes"),
        ([SIX], [cells([HIT] * 6)], None),
        ([ONE], [cells([HIT, EMPTY])], r"cohort number 1, note number 2: its gold items .* are \[0, 1\]"),
        ([ONE[0]], [ONE], r"cells must be \(seeds, notes, 3\) with a seed or more, got the shape \(2, 3\)"),
        ([ONE[:0]], [ONE[:0]], "with a seed or more"),
        ([ONE[..., :2]], [ONE], "cells must be"),
        ([ONE.astype(float)], [ONE], "counts of type int64, got float64"),
        ([-ONE], [ONE], "counts must be 0 or more, got -1"),
    ],
)
def test_cells_that_do_not_fit_are_refused(a, b, message):
    if message is None:
        assert difference_interval(a, b, rng=rng()) is not None
    else:
        with pytest.raises(ValueError, match=message):
            difference_interval(a, b, rng=rng())


def test_notes_in_another_order_under_another_seed_are_noticed():
    gold_3_and_1 = cells([(3, 0, 0), (1, 0, 0)], [(1, 0, 0), (3, 0, 0)])
    with pytest.raises(ValueError, match=r"note number 1: its gold items \(tp \+ fn\) are \[1, 3\]"):
        f1_by_seed(gold_3_and_1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_resamples": 0}, "num_resamples must be 1 or more"), ({"level": 95}, "level must be between")],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        f1_interval_over_seeds([ONE], rng=rng(), **settings)
    with pytest.raises(ValueError, match=message):
        difference_interval([ONE], [ONE], rng=rng(), **settings)


def test_two_thousand_notes_under_five_seeds_are_fast():
    made = rng().integers(0, 5, size=(1, 2000, 3)).repeat(5, axis=0)
    started = time.perf_counter()
    assert difference_interval([made], [made], rng=rng()) is not None
    assert time.perf_counter() - started < 3.0  # about 0.1 s
