import re

import pytest

from fedmedlora.report.examples import highlight
from fedmedlora.report.page import page_text


def plain(markup):
    """The text that is left without tags and labels."""
    return re.sub(r"<[^>]*>", "", re.sub(r"<small>.*?</small>", "", markup.source))


def test_an_example_is_on_the_page(results, example):
    page = page_text(results, [example])
    assert '<section id="examples"' in page
    # problem is only partly right, severity and drug are exact, negation and strength are missed
    assert "2 of 5 gold spans found exactly." in page
    for sign in ("problem ≈", "severity ✓", "negation −", "strength −", "test +"):
        assert f"<small>{sign}</small>" in page


@pytest.mark.parametrize("synthetic", [False, None, 1, "yes"])
def test_an_example_that_is_not_synthetic_is_refused(results, example, synthetic):
    with pytest.raises(ValueError, match=r"examples\[0\]: cohort 'lakeside' is not synthetic") as error:
        page_text(results, [{**example, "synthetic": synthetic}])
    assert "aspirin" not in str(error.value)


def test_the_results_have_the_last_word_on_what_is_synthetic(results, example):
    results["cohorts"][0]["synthetic"] = False
    with pytest.raises(ValueError, match="not synthetic"):
        page_text(results, [example])
    with pytest.raises(ValueError, match="not synthetic"):
        page_text(results, [{**example, "cohort": "unknown"}])


@pytest.mark.parametrize("span", [("drug", -1, 3), ("drug", 5, 5), ("drug", 40, 47)])
def test_a_span_outside_the_text_is_refused(results, example, span):
    with pytest.raises(ValueError, match=r"examples\[0\]\.gold") as error:
        page_text(results, [{**example, "gold": [span]}])
    assert "aspirin" not in str(error.value)


@pytest.mark.parametrize(
    "spans",
    [
        [],
        [("drug", 0, 6)],
        [("drug", 0, 6), ("drug", 0, 6)],
        [("drug", 0, 6), ("test", 0, 6), ("problem", 0, 6)],
        [("drug", 1, 5), ("test", 2, 3), ("problem", 3, 5)],
        [("drug", 0, 4), ("test", 2, 6)],
        [("drug", 0, 3), ("test", 1, 5), ("problem", 2, 6), ("drug", 4, 6)],
    ],
)
def test_the_text_stays_and_the_marks_are_balanced(spans):
    markup = highlight("a<b&\nc", spans, [], "extra")
    assert plain(markup) == "a&lt;b&amp;\nc"
    assert markup.source.count("<mark") == markup.source.count("</mark>")
    assert markup.source.count("<small>") == len(set(spans))


def test_hostile_text_and_labels(results, example):
    hostile = {**example, "text": "<script>alert(1)</script>\u202e", "predicted": []}
    page = page_text(results, [{**hostile, "gold": [('"><img src=x>', 0, 8)]}])
    assert "<script" not in page
    assert "<img" not in page
    assert "\u202e" not in page


def test_without_examples_there_is_no_such_part(results):
    assert 'id="examples"' not in page_text(results)
