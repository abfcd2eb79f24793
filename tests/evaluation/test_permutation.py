import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora.evaluation import permutation
from fedmedlora.evaluation.permutation import holm, paired_permutation
from fedmedlora.evaluation.seeds import mean_f1_of_cohorts

HIT, MISS, EMPTY = (1, 0, 0), (0, 0, 1), (0, 0, 0)


def rng(seed=0):
    return np.random.default_rng(seed)


def cells(*by_seed):
    return np.array(by_seed, dtype=np.int64).reshape(len(by_seed), -1, 3)


def random_pair(generator, num_seeds, num_notes):
    gold = generator.integers(0, 4, size=num_notes)
    pair = []
    for _ in "ab":
        tp = generator.binomial(gold, 0.6, size=(num_seeds, num_notes))
        fp = generator.integers(0, 2, size=(num_seeds, num_notes))
        pair.append(np.stack([tp, fp, gold - tp], axis=-1))
    return pair


def every_swap(a, b):
    """Exact p by the plain loop over all notes, alike or not."""
    observed = abs(mean_f1_of_cohorts(a) - mean_f1_of_cohorts(b))
    lengths = [one.shape[1] for one in a]
    as_far = []
    for swaps in itertools.product([False, True], repeat=sum(lengths)):
        rest = iter(swaps)
        swapped = [np.array([next(rest) for _ in range(n)]).reshape(1, -1, 1) for n in lengths]
        new_a = [np.where(s, y, x) for s, x, y in zip(swapped, a, b, strict=True)]
        new_b = [np.where(s, x, y) for s, x, y in zip(swapped, a, b, strict=True)]
        difference = mean_f1_of_cohorts(new_a) - mean_f1_of_cohorts(new_b)
        as_far.append(abs(difference) >= observed - 1e-12)
    return np.mean(as_far)


@pytest.mark.parametrize("seed", range(8))
def test_all_permutations_equal_the_plain_loop(seed):
    generator = rng(seed)
    one, other = (random_pair(generator, 2, num_notes) for num_notes in (4, 3))
    a, b = ([one[i], other[i]] for i in (0, 1))
    assert paired_permutation(a, b, rng=rng()) == pytest.approx(every_swap(a, b))


@pytest.mark.parametrize("seed", range(3))
def test_random_permutations_come_close_to_all(seed, monkeypatch):
    a, b = random_pair(rng(seed), 2, 8)
    exact = paired_permutation([a], [b], rng=rng(), num_permutations=256)
    monkeypatch.setattr(permutation, "_MAX_SWAPS", 1000)
    drawn = paired_permutation([a], [b], rng=rng(), num_permutations=255)  # one too few for all 2^8
    assert drawn == pytest.approx(exact, abs=0.12)  # 4 standard deviations of sqrt(.25 / 255) = 0.031
    assert drawn * 256 == pytest.approx(round(drawn * 256))  # (1 + k) / (1 + 255)
    assert drawn > 0


def test_exact_p_worked_by_hand():
    # a finds all three notes, b none: |d| = 1 again only when all three or none are swapped: 2/8
    a, b = cells([HIT] * 3), cells([MISS] * 3)
    assert paired_permutation([a], [b], rng=rng()) == 0.25
    assert paired_permutation([b], [a], rng=rng()) == 0.25  # two-sided
    # two cohorts of three: 2/64
    assert paired_permutation([a, a], [b, b], rng=rng()) == 2 / 64


def test_notes_that_are_alike_change_nothing():
    # 97 notes that both find, so 2^3 permutations, not 2^100. With one note swapped a finds 99 and b 98: |d|
    # is smaller than with 100 and 97, and only none and all three are as far
    a, b = cells([HIT] * 100), cells([HIT] * 97 + [MISS] * 3)
    assert paired_permutation([a], [b], rng=rng(), num_permutations=8) == 0.25


def test_the_seeds_of_a_note_are_swapped_together():
    # were the two seeds of the only note swapped apart, d would be 0 half of the time and p 0.5
    assert paired_permutation([cells([HIT], [HIT])], [cells([MISS], [MISS])], rng=rng()) == 1.0


def test_nothing_to_compare_is_no_evidence():
    same = cells([HIT, MISS])
    assert paired_permutation([same], [same], rng=rng()) == 1.0
    assert paired_permutation([], [], rng=rng()) == 1.0
    assert paired_permutation([cells([])], [cells([])], rng=rng()) == 1.0
    assert paired_permutation([cells([EMPTY])], [cells([(0, 1, 0)])], rng=rng()) == 1.0  # a has no F1


def test_a_cohort_without_gold_does_not_stop_the_others():
    # F1 is 0 for both in the second cohort, after some swaps undefined; only the first decides
    a, b = cells([HIT] * 3), cells([MISS] * 3)
    fp_first, fp_second = cells([(0, 1, 0), EMPTY]), cells([EMPTY, (0, 1, 0)])
    assert paired_permutation([a, fp_first], [b, fp_second], rng=rng()) == 0.25


def test_same_generator_same_p_and_the_blocks_change_nothing(monkeypatch):
    a, b = random_pair(rng(5), 2, 40)
    whole = paired_permutation([a], [b], rng=rng(1), num_permutations=99)
    assert paired_permutation([a], [b], rng=rng(1), num_permutations=99) == whole
    assert len({paired_permutation([a], [b], rng=rng(s), num_permutations=99) for s in range(5)}) > 1
    exact = paired_permutation([a[:, :6]], [b[:, :6]], rng=rng())
    monkeypatch.setattr(permutation, "_MAX_SWAPS", 1)  # one permutation at a time
    assert paired_permutation([a], [b], rng=rng(1), num_permutations=99) == whole
    assert paired_permutation([a[:, :6]], [b[:, :6]], rng=rng()) == exact


def methods_that_are_equal(generator, spread):
    """Two methods of recall 0.7, under 3 seeds that differ by ``spread``, on 40 notes of 4 gold items."""
    notes = generator.choice([-0.2, 0.2], size=(1, 40))
    pair = []
    for _ in "ab":
        seeds = generator.choice([-spread, spread], size=(3, 1))
        tp = generator.binomial(4, 0.7 + seeds + notes)
        pair.append([np.stack([tp, np.zeros_like(tp), 4 - tp], axis=-1)])
    return pair


def p_values(spread, num_studies=500):
    generator = rng(7)
    return np.array(
        [
            paired_permutation(*methods_that_are_equal(generator, spread), rng=generator, num_permutations=99)
            for _ in range(num_studies)
        ]
    )


def test_p_is_uniform_where_methods_are_equal():
    found = p_values(spread=0.0)
    for level in (0.05, 0.25, 0.5, 0.75):
        # 4 standard deviations of a share of 500 studies
        assert np.mean(found <= level) == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 500))


def test_p_takes_the_seeds_as_they_are():
    """The limit that the module names: seeds make equal methods differ, and p does not allow for it."""
    assert 0.2 < np.mean(p_values(spread=0.05, num_studies=200) <= 0.05) < 0.5


def test_a_difference_is_found():
    generator = rng(3)
    a, b = methods_that_are_equal(generator, 0.0)
    worse = b[0].copy()
    lost = np.minimum(worse[..., 0], 1)  # one item less of every note
    worse[..., 0] -= lost
    worse[..., 2] += lost
    assert paired_permutation(a, [worse], rng=generator, num_permutations=999) == 1 / 1000


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="num_permutations must be 1 or more, got 0"):
        paired_permutation([], [], rng=rng(), num_permutations=0)
    with pytest.raises(ValueError, match="its gold items"):
        paired_permutation([cells([HIT])], [cells([EMPTY])], rng=rng())


def test_two_thousand_notes_under_five_seeds_are_fast():
    a, b = random_pair(rng(), 5, 2000)
    started = time.perf_counter()
    assert 0 < paired_permutation([a], [b], rng=rng()) <= 1
    assert time.perf_counter() - started < 4.0  # about 0.25 s


def test_holm_worked_by_hand():
    # ascending .01, .02, .03, .04 times 4, 3, 2, 1: .04, .06, .06, .04 -> the last is raised to .06
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


@pytest.mark.parametrize(
    ("given_p", "adjusted"),
    [
        ([], []),
        ([0.3], [0.3]),
        ([0.02, 0.02], [0.04, 0.04]),  # ties
        ([0.9, 0.6], [1.0, 1.0]),  # at most 1
        ([0.0, 1.0], [0.0, 1.0]),
    ],
)
def test_holm_of_few(given_p, adjusted):
    assert holm(given_p) == pytest.approx(adjusted)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_step_down_procedure(given_p):
    adjusted = holm(given_p)
    for p, new in zip(given_p, adjusted, strict=True):
        assert p <= new <= min(1.0, len(given_p) * max(given_p))
    order = np.argsort(given_p, kind="stable")
    assert list(np.diff(np.array(adjusted)[order]) >= 0) == [True] * (len(given_p) - 1)
    # rejecting below alpha is Holm's own procedure: go up while p <= alpha / (m - k + 1)
    for alpha in (0.01, 0.05, 0.3):
        going, rejected = True, set()
        for rank, index in enumerate(order):
            going = going and given_p[index] * (len(given_p) - rank) <= alpha
            if going:
                rejected.add(int(index))
        assert rejected == {i for i, p in enumerate(adjusted) if p <= alpha}


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_is_refused(p):
    with pytest.raises(ValueError, match="p must be from 0 to 1"):
        holm([0.5, p])
