import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora.corpora.note import Annotates, Entity, Note
from fedmedlora.evaluation.calibration import (
    ReliabilityBin,
    average_precision,
    expected_calibration_error,
    num_gold_entities,
    precision_recall_curve,
    reliability_bins,
    right_or_wrong,
)
from fedmedlora.evaluation.counts import Counts
from fedmedlora.evaluation.score import score_note

NOTHING = (np.zeros(0), np.zeros(0, dtype=bool))
MENTIONS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), st.booleans()), max_size=12)


def mentions(*pairs):
    """(confidence, right) of some mentions as two arrays."""
    return np.array([c for c, _ in pairs], dtype=float), np.array([r for _, r in pairs], dtype=bool)


FIVE = mentions((0.2, False), (0.4, True), (0.9, True), (0.7, True), (0.8, False))


def test_two_bins_worked_by_hand():
    low, high = reliability_bins(*FIVE, num_bins=2)
    # 0.2 wrong and 0.4 right; 0.9 and 0.7 right and 0.8 wrong
    assert (low.low, low.high, low.num_mentions) == (0.0, 0.5, 2)
    assert (low.mean_confidence, low.share_right) == pytest.approx((0.3, 0.5))
    assert (high.low, high.high, high.num_mentions) == (0.5, 1.0, 3)
    assert (high.mean_confidence, high.share_right) == pytest.approx((0.8, 2 / 3))
    # (2 * 0.2 + 3 * 0.1333) / 5
    assert expected_calibration_error(*FIVE, num_bins=2) == pytest.approx(0.16)


def test_one_bin_is_the_gap_of_all():
    # mean confidence 3/5, share right 3/5
    assert expected_calibration_error(*FIVE, num_bins=1) == pytest.approx(0.0, abs=1e-12)


def test_fifteen_bins_unless_told():
    assert len(reliability_bins(*FIVE)) == 15
    # all five lie in bins of their own: (0.2 + 0.6 + 0.1 + 0.3 + 0.8) / 5
    assert expected_calibration_error(*FIVE) == pytest.approx(0.4)


def test_nothing_predicted():
    assert expected_calibration_error(*NOTHING) is None
    assert reliability_bins(*NOTHING, num_bins=1) == [ReliabilityBin(0.0, 1.0, 0, None, None)]
    curve = precision_recall_curve(*NOTHING, num_gold=3)
    assert [len(each) for each in (curve.thresholds, curve.precision, curve.recall)] == [0, 0, 0]
    assert average_precision(*NOTHING, num_gold=3) == 0.0


@pytest.mark.parametrize("num_bins", [1, 3, 7, 10, 15, 49])
def test_an_edge_belongs_to_the_bin_below_and_0_to_the_first(num_bins):
    for i in range(num_bins + 1):
        bins = reliability_bins(*mentions((i / num_bins, True)), num_bins=num_bins)
        assert [n for n, each in enumerate(bins) if each.num_mentions] == [max(i - 1, 0)]
    assert bins[-1].high == 1.0


@settings(max_examples=50, deadline=None)
@given(MENTIONS.filter(len), st.integers(1, 20))
def test_bins_hold_every_mention_once_and_the_error_is_their_gap(pairs, num_bins):
    confidence, right = mentions(*pairs)
    expected, seen = 0.0, 0
    for each in reliability_bins(confidence, right, num_bins=num_bins):
        inside = [(c, r) for c, r in pairs if each.low < c <= each.high or c == each.low == 0]
        assert len(inside) == each.num_mentions
        seen += len(inside)
        expected += abs(sum(c - r for c, r in inside)) / len(pairs)
    assert seen == len(pairs)
    assert expected_calibration_error(confidence, right, num_bins=num_bins) == pytest.approx(expected)


def test_the_curve_worked_by_hand():
    found = mentions((0.8, False), (0.4, True), (0.9, True), (0.6, False), (0.8, True))
    curve = precision_recall_curve(*found, num_gold=5)
    # 0.9 right | 0.8 right and wrong | 0.6 wrong | 0.4 right; 2 of 5 gold items were never predicted
    assert curve.thresholds.tolist() == [0.9, 0.8, 0.6, 0.4]
    assert curve.precision.tolist() == pytest.approx([1, 2 / 3, 2 / 4, 3 / 5])
    assert curve.recall.tolist() == pytest.approx([1 / 5, 2 / 5, 2 / 5, 3 / 5])
    # gains of recall 1/5, 1/5, 0, 1/5 times precision 1, 2/3, 1/2, 3/5
    assert average_precision(*found, num_gold=5) == pytest.approx((1 + 2 / 3 + 3 / 5) / 5)


def test_the_example_of_scikit_learn():
    # average_precision_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) is documented as 0.83, 1/2 + 1/2 * 2/3.
    # Its precision_recall_curve, read from the end: precision 1, 0.5, 0.67, 0.5; recall 0.5, 0.5, 1, 1.
    found = mentions((0.1, False), (0.4, False), (0.35, True), (0.8, True))
    curve = precision_recall_curve(*found, num_gold=2)
    assert curve.thresholds.tolist() == [0.8, 0.4, 0.35, 0.1]
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert curve.recall.tolist() == [0.5, 0.5, 1, 1]
    assert average_precision(*found, num_gold=2) == pytest.approx(5 / 6)


def test_perfect_and_hopeless():
    assert average_precision(*mentions((0.9, True), (0.1, True)), num_gold=2) == 1.0
    assert average_precision(*mentions((0.9, True), (0.1, True)), num_gold=4) == 0.5  # half was never found
    assert average_precision(*mentions((0.9, False)), num_gold=4) == 0.0


def test_without_gold_recall_is_undefined():
    assert precision_recall_curve(*mentions((0.9, False)), num_gold=0) is None
    assert average_precision(*NOTHING, num_gold=0) is None


@settings(max_examples=50, deadline=None)
@given(MENTIONS, st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_curve_is_a_count_at_each_threshold_in_any_order(pairs, num_missed, shuffler):
    num_gold = sum(right for _, right in pairs) + num_missed
    curve = precision_recall_curve(*mentions(*pairs), num_gold=num_gold)
    if num_gold == 0:
        assert curve is None
        return
    rows = []
    for threshold in sorted({c for c, _ in pairs}, reverse=True):
        kept = [right for c, right in pairs if c >= threshold]
        rows.append((threshold, sum(kept) / len(kept), sum(kept) / num_gold))
    assert list(zip(curve.thresholds, curve.precision, curve.recall, strict=True)) == rows
    shuffled = shuffler.sample(pairs, len(pairs))
    before, after = (average_precision(*mentions(*each), num_gold=num_gold) for each in (pairs, shuffled))
    assert 0 <= before <= 1
    assert before == after


@pytest.mark.parametrize(
    ("confidence", "right", "message"),
    [
        ([0.5, 0.5], [True], r"of the same length, got the shapes \(2,\) and \(1,\)"),
        ([[0.5]], [[True]], "must be one row each"),
        ([0.5], [1], "right must be of booleans, got int64"),
        ([0.5, 1.5], [True, True], r"confidence must be from 0 to 1, got 1.5; give probabilities"),
        ([-0.1], [True], "must be from 0 to 1"),
        ([float("nan")], [True], "must be from 0 to 1, got nan"),
    ],
)
def test_what_is_no_confidence_is_refused(confidence, right, message):
    arrays = np.array(confidence), np.array(right)
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(*arrays)
    with pytest.raises(ValueError, match=message):
        average_precision(*arrays, num_gold=5)


def test_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="num_bins must be 1 or more, got 0"):
        reliability_bins(*FIVE, num_bins=0)
    with pytest.raises(ValueError, match="at least the number of right mentions, 3, got 2"):
        precision_recall_curve(*FIVE, num_gold=2)


SCOPE = Annotates(frozenset({"problem", "drug"}), frozenset())


def note(*entities, name="n", text="", annotates=SCOPE):
    """entities: (id, type, start, end)."""
    made = tuple(Entity(each, kind, ((start, end),)) for each, kind, start, end in entities)
    return Note(name, text, made, (), (), annotates)


def test_right_or_wrong_worked_by_hand():
    gold = note(("T1", "problem", 3, 13), ("T2", "drug", 20, 27), ("T3", "test", 30, 33))
    predicted = note(
        ("a", "problem", 3, 13),
        ("b", "problem", 9, 13),  # overlaps only
        ("c", "problem", 20, 27),  # a drug
        ("d", "test", 30, 33),  # gold has it, but does not annotate tests
        ("e", "problem", 3, 13),  # the same as a
        annotates=Annotates(frozenset(), frozenset()),  # plays no role
    )
    assert right_or_wrong(gold, predicted) == {"a": True, "b": False, "c": False}
    assert num_gold_entities(gold) == 2
    assert score_note(gold, predicted).entities.strict.micro() == Counts(tp=1, fp=2, fn=1)


SPANS = st.tuples(st.sampled_from(["problem", "drug", "test"]), st.integers(0, 2), st.integers(3, 4))


@settings(max_examples=50, deadline=None)
@given(st.lists(SPANS, max_size=6), st.lists(SPANS, max_size=6))
def test_right_and_wrong_are_the_strict_counts(gold_spans, predicted_spans):
    gold, predicted = (
        note(*((f"T{i}", *span) for i, span in enumerate(spans))) for spans in (gold_spans, predicted_spans)
    )
    found = right_or_wrong(gold, predicted)
    num_right = sum(found.values())
    expected = Counts(num_right, len(found) - num_right, num_gold_entities(gold) - num_right)
    assert score_note(gold, predicted).entities.strict.micro() == expected


def test_no_entities():
    assert right_or_wrong(note(), note()) == {}
    assert num_gold_entities(note()) == 0


def test_notes_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="gold note 'n' and predicted note 'm' differ; match them by id"):
        right_or_wrong(note(), note(name="m"))
    with pytest.raises(ValueError, match="gold and predicted text differ") as error:
        right_or_wrong(note(text="No cough."), note(text="No fever."))
    assert "cough" not in str(error.value)
    with pytest.raises(ValueError, match="uses the id 'a' for several entities"):
        right_or_wrong(note(), note(("a", "drug", 0, 1), ("a", "drug", 0, 2)))
