import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora.tasks.pieces import has_leading_space, pieces, unescape

HOSTILE = ["<", ">", "&", "&lt;", "&amp;", "lt;", "amp;", "<problem>", "</problem>", " ", "  ", "\n", "\r\n"]
HOSTILE += [
    "\t",
    "\xa0",
    "\u2028",
    "10mg",
    "é",
    "e\u0301",
    "\u0301",
    "½",
    "²",
    "٣",
    "漢",
    "😀",
    "\ud800",
    "-",
]
texts = st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=4)), max_size=20).map("".join)


def forms(text: str) -> list[str]:
    return [piece.form for piece in pieces(text, 0, len(text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" ", [" "]),
        ("10mg", ["10", "mg"]),
        ("non-smoker", ["non", "-", "smoker"]),
        ("a  b", ["a", " ", " b"]),  # the first space leads nothing
        ("a \n b ", ["a", " ", "\n", " b", " "]),
        ("a\r\n\tb", ["a", "\r", "\n", "\t", "b"]),
        (" 3.5%", [" 3", ".", "5", "%"]),
        ("a<b", ["a", "&lt;", "b"]),
        ("a <b>", ["a", " <", "b", ">"]),  # a form with a space cannot be taken for a tag
        ("&lt;", ["&amp;", "lt", ";"]),
        (" &amp;", [" &amp;", "amp", ";"]),
        ("A&E & <", ["A", "&", "E", " &", " <"]),
        ("e\u0301te\u0301 \u0301", ["e\u0301te\u0301", " \u0301"]),  # marks stay with their letter
        ("10²", ["10", "²"]),
        ("a\xa0b", ["a", "\xa0", "b"]),  # a no-break space is white space of its own
        ("snake_case", ["snake", "_", "case"]),
    ],
)
def test_cut(text: str, expected: list[str]) -> None:
    assert forms(text) == expected


@given(texts, st.data())
def test_laws(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    cut = pieces(text, start, end)
    assert [p.start for p in cut] + [end] == [start] + [p.end for p in cut]  # contiguous, covering
    assert all(p.start < p.end for p in cut)
    assert unescape("".join(p.form for p in cut)) == text[start:end]
    for p in cut:
        assert not p.form.startswith("<")
        assert unescape(p.form) == text[p.start : p.end]
        assert not has_leading_space(p) or not text[p.start + 1].isspace()


@given(texts, texts)
def test_different_texts_have_different_forms(one: str, other: str) -> None:
    assert (one == other) == ("".join(forms(one)) == "".join(forms(other)))


def test_the_end_of_the_range_ends_a_piece() -> None:
    assert [p.form for p in pieces("ab cd", 1, 4)] == ["b", " c"]
    assert [p.form for p in pieces("ab cd", 1, 3)] == ["b", " "]  # the word that it leads is outside
    assert [p.form for p in pieces("&lt;", 0, 3)] == ["&", "lt"]  # cut short, it reads as no escape


@pytest.mark.parametrize(("start", "end"), [(-1, 1), (2, 1), (0, 3)])
def test_range_outside_the_text(start: int, end: int) -> None:
    with pytest.raises(ValueError, match="not inside a text of 2 characters"):
        pieces("ab", start, end)
