import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedmedlora.corpora.sentences import MAX_CHARACTERS, sentences


def texts(text: str, keep: list[tuple[int, int]] | None = None) -> list[str]:
    return [text[start:end] for start, end in sentences(text, keep or ())]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t\xa0", []),
        ("One. Two! Three? (Four) five", ["One.", "Two!", "Three?", "(Four) five"]),
        ("one. two", ["one. two"]),
        ("a\r\nb\rc\n\n\nd", ["a", "b", "c", "d"]),
        ("\tTabs\tstay. \xa0Été comes.\x85Next", ["Tabs\tstay.", "Été comes.", "Next"]),
        ("Seen by Dr. Smith vs. Jones.", ["Seen by Dr. Smith vs. Jones."]),
        ("Take p.o. Monday, e.g. Aspirin.", ["Take p.o. Monday, e.g. Aspirin."]),
        ("See No. 5 of it. No. Never.", ["See No. 5 of it.", "No.", "Never."]),
        ("By J. K. Rowling.", ["By J. K. Rowling."]),
        ("Weight 3.5 kg. 12 left.", ["Weight 3.5 kg.", "12 left."]),
        ("1. Asthma. 2. Pain", ["1. Asthma.", "2. Pain"]),
        ('He said "no." Then left.', ['He said "no."', "Then left."]),
        ("Pain. 😀 Then.", ["Pain. 😀 Then."]),
    ],
)
def test_boundaries(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


def test_keep_merges_what_it_crosses() -> None:
    text = "One. Two. Three."  # cuts at 4 and 9
    assert texts(text, [(2, 6)]) == ["One. Two.", "Three."]
    assert texts(text, [(0, 4), (5, 9)]) == ["One.", "Two.", "Three."]
    assert texts(text, [(3, 6), (5, 12)]) == [text]
    assert texts(text, [(4, 5)]) == ["One.", "Two.", "Three."]  # white space alone keeps nothing


def test_a_long_sentence_is_cut_at_white_space_after_a_semicolon_if_it_can() -> None:
    words = "ab " * 150  # 450 characters
    text = f"{words.strip()}; {words.strip()}"
    assert texts(text) == [f"{words.strip()};", words.strip()]


def test_a_run_without_white_space_is_cut_hard_but_not_inside_keep() -> None:
    text = "x" * (2 * MAX_CHARACTERS)
    assert sentences(text) == ((0, MAX_CHARACTERS), (MAX_CHARACTERS, 2 * MAX_CHARACTERS))
    before = MAX_CHARACTERS - 10
    assert sentences(text, [(before, MAX_CHARACTERS + 10)])[0] == (0, before)
    whole = [(0, len(text))]
    assert sentences(text, whole) == ((0, len(text)),)


CHARACTERS = st.sampled_from(list("aAé1. .,;!?()\"'\n\r\t\x0b\xa0\u2028ß😀x")) | st.characters(codec="utf-8")
TEXTS = st.text(CHARACTERS, max_size=80) | st.builds(
    lambda parts, times: "".join(parts) * times,
    st.lists(st.sampled_from(["ab ", "x" * 9, "; ", ". A"])),
    st.integers(1, 120),
)


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.lists(st.tuples(st.integers(0, 900), st.integers(1, 40)), max_size=4))
@example("A. B", [(0, 4)])
def test_laws(text: str, ranges: list[tuple[int, int]]) -> None:
    keep = [(s, min(s + n, len(text))) for s, n in ranges if s < len(text)]
    found = sentences(text, keep)
    assert found == sentences(text, list(reversed(keep)))
    covered = [False] * len(text)
    last = 0
    for start, end in found:
        assert last <= start < end <= len(text)
        assert not text[start].isspace()
        assert not text[end - 1].isspace()
        covered[start:end] = [True] * (end - start)
        last = end
    assert all(c or text[i].isspace() for i, c in enumerate(covered))
    for start, end in keep:
        solid = [i for i in range(start, end) if not text[i].isspace()]
        if solid:
            assert any(a <= solid[0] and solid[-1] < b for a, b in found)
    if not keep:
        assert all(end - start <= MAX_CHARACTERS for start, end in found)
