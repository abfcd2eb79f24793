from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora.evaluation.counts import Counts, TypedCounts, add_up

COUNTS = st.builds(Counts, *(st.integers(0, 50) for _ in range(3)))
TYPED = st.builds(TypedCounts, st.dictionaries(st.sampled_from("abcd"), COUNTS))


def test_worked_by_hand():
    # 3 right, 1 invented, 2 missed: P = 3/4, R = 3/5, F1 = 6/9
    counts = Counts(tp=3, fp=1, fn=2)
    assert counts.precision == 0.75
    assert counts.recall == 0.6
    assert counts.f1 == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("counts", "precision", "recall", "f1"),
    [
        (Counts(0, 0, 0), None, None, None),
        (Counts(0, 0, 4), None, 0.0, 0.0),  # gold, nothing predicted
        (Counts(0, 4, 0), 0.0, None, 0.0),  # predicted, no gold
        (Counts(0, 2, 2), 0.0, 0.0, 0.0),
        (Counts(5, 0, 0), 1.0, 1.0, 1.0),
    ],
)
def test_at_the_edges(counts, precision, recall, f1):
    assert (counts.precision, counts.recall, counts.f1) == (precision, recall, f1)


@pytest.mark.parametrize("counts", [(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_negative_counts_are_refused(counts):
    with pytest.raises(ValueError, match="0 or more"):
        Counts(*counts)


def test_counts_are_frozen():
    with pytest.raises(FrozenInstanceError):
        Counts(1, 2, 3).tp = 5  # type: ignore[misc]


@given(COUNTS, COUNTS)
def test_counts_add_field_by_field(a, b):
    assert a + b == Counts(a.tp + b.tp, a.fp + b.fp, a.fn + b.fn)


@given(COUNTS)
def test_f1_is_the_harmonic_mean_where_both_are_defined(counts):
    precision, recall = counts.precision, counts.recall
    if precision and recall:
        assert counts.f1 == pytest.approx(2 / (1 / precision + 1 / recall))


@given(TYPED, TYPED, TYPED)
def test_typed_counts_are_a_commutative_monoid(a, b, c):
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + TypedCounts() == a
    assert add_up([a, b, c]) == a + b + c
    assert add_up([]) == TypedCounts()


@given(TYPED, TYPED)
def test_micro_of_the_sum_is_the_sum_of_the_micros(a, b):
    assert (a + b).micro() == a.micro() + b.micro()


def test_adding_keeps_types_that_only_one_side_has():
    a = TypedCounts({"drug": Counts(1, 0, 0), "test": Counts(0, 0, 0)})
    b = TypedCounts({"drug": Counts(0, 2, 0), "problem": Counts(0, 0, 3)})
    assert (a + b).per_type == {
        "drug": Counts(1, 2, 0),
        "problem": Counts(0, 0, 3),
        "test": Counts(0, 0, 0),
    }


def test_macro_leaves_out_types_with_nothing_to_count():
    # drug 1.0, problem 2/(2+1+1) = 0.5, test undefined: mean over two = 0.75
    typed = TypedCounts({"drug": Counts(2, 0, 0), "problem": Counts(1, 1, 1), "test": Counts(0, 0, 0)})
    assert typed.macro_f1() == 0.75
    assert TypedCounts({"test": Counts(0, 0, 0)}).macro_f1() is None
    assert TypedCounts().macro_f1() is None


def test_macro_counts_a_type_that_was_only_predicted_as_zero():
    assert TypedCounts({"drug": Counts(2, 0, 0), "test": Counts(0, 1, 0)}).macro_f1() == 0.5


def test_addition_leaves_its_operands_alone():
    a = TypedCounts({"drug": Counts(1, 0, 0)})
    _ = a + TypedCounts({"drug": Counts(1, 1, 1)})
    assert a.per_type == {"drug": Counts(1, 0, 0)}
