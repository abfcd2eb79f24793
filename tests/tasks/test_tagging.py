"""Words for pieces, worked by hand."""

from __future__ import annotations

import pytest

from fedmedlora.corpora.note import Entity
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.form import load_form
from fedmedlora.tasks.kinds.modifiers import marked
from fedmedlora.tasks.markup import Mention
from fedmedlora.tasks.pieces import pieces
from fedmedlora.tasks.tagging import options, place, render, runs

LABELS = ("problem", "drug", "test")
TEXT = "Denies chest pain,\n no aspirin 81 mg"
#       0      7     13   17 18 20 23      31 34
PIECES = pieces(TEXT, 0, len(TEXT))  # Denies| chest| pain|,|\n| no| aspirin| 81| mg


def entity(label: str, start: int, end: int, number: int = 0) -> Entity:
    return Entity(f"T{number}", label, ((start, end),))


def test_by_hand():
    found = [entity("drug", 23, 30), entity("problem", 7, 17)]
    words, unplaced = render(PIECES, found, LABELS)
    # The line break is no solid piece, so there are eight words for nine pieces.
    assert words == ("-", "problem", "+", "-", "-", "drug", "-", "-")
    assert unplaced == ()
    assert place(PIECES, words) == (Mention("problem", 7, 17), Mention("drug", 23, 30))


def test_a_mention_goes_on_behind_white_space_and_another_begins_right_behind_it():
    found = [entity("problem", 13, 22), entity("problem", 23, 30), entity("test", 31, 36)]
    words, unplaced = render(PIECES, found, LABELS)
    assert words == ("-", "-", "problem", "+", "+", "problem", "test", "+")
    assert unplaced == ()
    assert place(PIECES, words) == (
        Mention("problem", 13, 22), Mention("problem", 23, 30), Mention("test", 31, 36),
    )  # fmt: skip


def test_what_lies_inside_or_crosses_is_returned():
    outer, inner = entity("problem", 0, 17, 0), entity("drug", 7, 12, 1)
    crossing, again = entity("test", 13, 22, 2), entity("problem", 0, 17, 3)
    other_label, half = entity("drug", 0, 17, 4), entity("drug", 24, 30, 5)
    words, unplaced = render(PIECES, [half, other_label, crossing, inner, outer, again], LABELS)
    assert words == ("problem", "+", "+", "-", "-", "-", "-", "-")
    assert [(e.id, reason) for e, reason in unplaced] == [
        ("T5", "inside a piece"), ("T3", "duplicate"), ("T4", "nested"), ("T1", "nested"), ("T2", "crossing"),
    ]  # fmt: skip


def test_marks_have_no_word_and_a_mention_may_hold_one():
    given = [entity("problem", 13, 17)]
    cut = marked(PIECES, given)
    words, unplaced = render(cut, [entity("severity", 7, 17)], ("severity",))
    assert (len(words), unplaced) == (8, ())
    assert words[:4] == ("-", "severity", "+", "-")
    assert place(cut, words) == (Mention("severity", 7, 17),)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), []),
        (("-", "-"), []),
        (("+", "drug"), [(1, 2)]),
        (("drug", "+", "+"), [(0, 3)]),
        (("drug", "-", "+", "drug"), [(0, 1), (3, 4)]),
        (("drug", "drug", "+"), [(0, 1), (1, 3)]),
    ],
)
def test_runs(words, expected):
    assert runs(words) == expected


def test_options_begin_with_none_and_same():
    assert options(LABELS) == ("-", "+", *LABELS)
    assert options(()) == ("-", "+")


@pytest.mark.parametrize(
    ("text", "complete", "mentions"),
    [
        ("- problem + - - drug - -", True, 2),
        ("- problem + - - drug -", False, 2),  # one too few
        ("- problem + - - drug - - -", False, 2),  # one too many
        ("- problem + + - + - -", False, 1),  # goes on from nothing
        ("- severity + - - drug - -", False, 1),  # not asked for; nor does anything go on from it
        ("", False, 0),
    ],
)
def test_reading_text(text, complete, mentions):
    how = load_form("tags")
    example = Example("n/0", "n", "ner", "", how.written(PIECES), PIECES, LABELS, (), form="tags")
    reading = how.read(example, text)
    assert (reading.complete, len(reading.mentions)) == (complete, mentions)
