"""How sure the model is of what it finds."""

from __future__ import annotations

import numpy as np
import pytest

from fedmedlora.extraction.decode import decode, decode_scored
from fedmedlora.extraction.reference import decode_stepwise_scored
from fedmedlora.extraction.scores import largest_share
from fedmedlora.tasks.example import Example, Piece
from fedmedlora.tasks.markup import Mention, confidences, place
from fedmedlora.tasks.pieces import pieces

PIECES = (Piece(0, 2, "He"), Piece(2, 9, " denies"), Piece(9, 15, " fever"), Piece(15, 16, "."))


def test_a_span_is_as_sure_as_its_tags_and_what_stands_between():
    output = ("He", " denies", "<problem>", " fever", "</problem>", ".")
    shares = (0.9, 0.8, 0.5, 0.7, 0.6, 1.0)
    assert place(PIECES, output)[0] == (Mention("problem", 10, 15),)
    assert confidences(PIECES, output, shares) == (pytest.approx(0.5 * 0.7 * 0.6),)


def test_nested_repeated_and_none():
    assert confidences(PIECES, ("He", " denies", " fever", "."), (0.1,) * 4) == ()
    nested = ("<a>", "He", "<b>", " denies", "</b>", "</a>", " fever", ".")
    shares = (0.5, 1.0, 0.4, 1.0, 0.5, 1.0, 1.0, 1.0)
    # a: 0.5 * 0.4 * 0.5 (what is inside belongs to it), b: 0.4 * 0.5.
    assert confidences(PIECES, nested, shares) == (pytest.approx(0.1), pytest.approx(0.2))
    twice = ("<a>", "<a>", "He", "</a>", "</a>", " denies", " fever", ".")
    assert len(place(PIECES, twice)[0]) == 1
    assert confidences(PIECES, twice, (0.5,) + (1.0,) * 7) == (0.5,)  # the first, as in place


TEXTS = (
    "Pt denies chest pain and severe nausea.",
    "",
    "fever",
    "BP 120/80\n aspirin  aspirin é",
    "pain pain pain",
)


def example(text: str, number: int) -> Example:
    cut = pieces(text, 0, len(text))
    forms = tuple(piece.form for piece in cut)
    return Example(f"n/{number}", "n", "ner", "Mark it.", ("Text: ", *forms), cut, ("problem", "drug"), ())


@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_fast_decoder_is_as_sure_as_the_plain_one(build, encoder, window, seed):
    model = build("llama", seed)
    examples = [example(text, number) for number, text in enumerate(TEXTS)]
    fast = decode_scored(model, encoder, examples, batch_size=3, window=window)
    assert [output for output, _ in fast] == decode(model, encoder, examples)
    for (output, shares), case in zip(fast, examples, strict=True):
        expected_output, expected = decode_stepwise_scored(model, encoder, case)
        assert output == expected_output
        assert len(shares) == len(output)
        assert shares == pytest.approx(expected, abs=1e-4)
        assert all(0.0 < share <= 1.0 for share in shares)
    assert any(share < 0.999 for _, shares in fast for share in shares)


def test_what_the_constraint_leaves_no_choice_is_certain():
    assert largest_share(np.array([3.0], np.float32)) == 1.0
    # exp(0) / (exp(0) + exp(-log 3)) = 3 / 4
    assert largest_share(np.array([1.0, 1.0 - np.log(3)], np.float32)) == pytest.approx(0.75)
    assert largest_share(np.array([1000.0, -1000.0], np.float32)) == 1.0
