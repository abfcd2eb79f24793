"""Scores of answers, worked by hand."""

import numpy as np
import pytest

from fedmedlora.evaluation.answers import exact_match, summarize_answers, token_f1
from fedmedlora.evaluation.bootstrap import mean_interval


@pytest.mark.parametrize(
    ("answer", "response", "expected"),
    [(" yes\n", "yes", 1), ("a  b", "a b", 1), ("Yes", "yes", 0), ("", "yes", 0), ("yes.", "yes", 0)],
)
def test_exact_match(answer: str, response: str, expected: float) -> None:
    assert exact_match(answer, response) == expected


@pytest.mark.parametrize(
    ("answer", "response", "expected"),
    [
        ("the left lung", "Left lung.", 1.0),
        # 2 of the 3 words said, 2 of the 2 right: P = 2/3, R = 1, F1 = 0.8
        ("left upper lung", "left lung", 0.8),
        # Words count as often as both have them: 1 shared of 2 said and 1 right.
        ("pain pain", "pain", 2 / 3),
        ("left", "right", 0.0),
        ("", "right", 0.0),
        ("the", "a", 1.0),  # nothing is left of either
        ("the", "right", 0.0),
        ("théâtre", "THÉÂTRE", 1.0),
    ],
)
def test_token_f1(answer: str, response: str, expected: float) -> None:
    assert token_f1(answer, response) == pytest.approx(expected)
    assert token_f1(response, answer) == pytest.approx(expected)


def test_the_summary() -> None:
    found = summarize_answers("exact_match", [1.0, 0.0, 0.0, 1.0, 1.0, 0.0], rng=np.random.default_rng(1))
    assert (found["metric"], found["num_records"], found["score"]) == ("exact_match", 6, 0.5)
    low, high = found["interval"]
    assert 0 <= low < 0.5 < high <= 1
    assert summarize_answers("choice", [], rng=np.random.default_rng(1)) == {
        "metric": "choice", "num_records": 0, "score": None, "interval": None,
    }  # fmt: skip
    assert summarize_answers("choice", [1.0], rng=None)["interval"] is None


def test_the_interval_of_a_mean() -> None:
    scores = [0.0, 1.0] * 200
    low, high = mean_interval(scores, rng=np.random.default_rng(0), num_resamples=2000) or (0, 0)
    # The standard error of the mean is 0.5 / sqrt(400) = 0.025, so the interval is about 0.5 -+ 0.049.
    assert (low, high) == pytest.approx((0.451, 0.549), abs=0.006)
    assert mean_interval([1.0] * 6, rng=np.random.default_rng(0)) == (1.0, 1.0)
    assert mean_interval([0.0, 1.0, 0.0, 1.0, 0.5], rng=np.random.default_rng(0)) is None
    with pytest.raises(ValueError, match="num_resamples"):
        mean_interval(scores, rng=np.random.default_rng(0), num_resamples=0)
