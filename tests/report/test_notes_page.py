"""The page of extracted notes: every character is there, nothing of a note becomes markup."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora.report.notes_page import notes_page

VOID = {"meta"}


class Tags(HTMLParser):
    """Every tag of a page, and whether they close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.text: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, tuple(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in set(self.open):
            self.text.setdefault(tag, []).append(data)


def body_of(page: str) -> str:
    """What stands between <pre> and </pre>."""
    (found,) = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
    return found


def text_of(page: str) -> str:
    """The note's text as a reader sees it, without the small type names."""
    return unescape(re.sub(r"<[^>]*>", "", re.sub(r"<small>.*?</small>", "", body_of(page))))


def test_one_entity():
    page = notes_page([("n1", "No fever.", [("problem", 3, 8)], [])])
    assert body_of(page) == 'No <mark class="problem">fever<small>problem</small></mark>.'
    assert "<table" not in page


def test_no_note_and_a_note_without_text():
    Tags(notes_page([]))
    assert body_of(notes_page([("n1", "", [], [])])) == ""


def test_an_entity_over_the_whole_text():
    assert body_of(notes_page([("n", "pain", [("problem", 0, 4)], [])])) == (
        '<mark class="problem">pain<small>problem</small></mark>'
    )


@pytest.mark.parametrize(
    ("entities", "expected"),
    [
        # one inside the other
        ([("test", 0, 9), ("problem", 0, 4)], "<t><p>abcd</p> efgh</t>"),
        ([("test", 0, 9), ("problem", 5, 9)], "<t>abcd <p>efgh</p></t>"),
        # the same span twice, with two types: names in order
        ([("test", 0, 4), ("problem", 0, 4)], "<p><t>abcd</t></p> efgh"),
        # the same twice: once
        ([("test", 0, 4), ("test", 0, 4)], "<t>abcd</t> efgh"),
        # side by side
        ([("problem", 0, 4), ("test", 4, 9)], "<p>abcd</p><t> efgh</t>"),
    ],
)
def test_nested(entities, expected):
    page = notes_page([("n", "abcd efgh", entities, [])])
    Tags(page)
    for short, name in (("p", "problem"), ("t", "test")):
        expected = expected.replace(f"<{short}>", f'<mark class="{name}">')
        expected = expected.replace(f"</{short}>", f"<small>{name}</small></mark>")
    assert body_of(page) == expected


def test_crossing():
    """The one that begins later is drawn in two parts, its name on the last."""
    page = notes_page([("n", "abcdefgh", [("test", 0, 4), ("problem", 2, 8)], [])])
    Tags(page)
    assert body_of(page) == (
        '<mark class="test">ab<mark class="problem">cd</mark><small>test</small></mark>'
        '<mark class="problem">efgh<small>problem</small></mark>'
    )
    assert text_of(page) == "abcdefgh"


def test_links_are_a_table():
    page = notes_page([("n", "No fever.", [("problem", 3, 8)], [("fever", "negation", "No")])])
    assert "<tr><td>fever</td><td>negation</td><td>No</td></tr>" in page


HOSTILE = "<script>alert(1)</script>&amp;\"'</pre></mark><img src=x onerror=alert(1)>\u202e\x00\x1b[31m"


def test_hostile_text_ids_types_and_links_stay_text():
    page = notes_page(
        [(HOSTILE, HOSTILE, [(HOSTILE, 0, 8), ("x\" onclick='y'", 1, 3)], [(HOSTILE, HOSTILE, HOSTILE)])]
    )
    tags = Tags(page)
    names = {name for name, _ in tags.seen}
    assert names <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "section", "pre"),
        *("mark", "small", "table", "thead", "tbody", "tr", "th", "td"),
    }
    for name, attributes in tags.seen:
        if name == "mark":
            assert [key for key, _ in attributes] == ["class"]
    for hidden in ("\u202e", "\x00", "\x1b"):
        assert hidden not in page
    assert "[U+202E]" in page


def test_nothing_is_loaded_from_anywhere():
    page = notes_page([("n", "https://example.org/x.png", [], [])])
    assert "default-src 'none'" in page
    assert not re.search(r"(?:src|href)=", page)


def test_line_ends_and_tabs_are_kept():
    assert text_of(notes_page([("n", "a\n\tb\n", [], [])])) == "a\n\tb\n"


@given(st.data())
def test_every_character_is_there(data):
    text = data.draw(st.text("ab <&>\"'\né", max_size=30))
    ends = st.integers(0, len(text))
    drawn = data.draw(st.lists(st.tuples(st.sampled_from(["problem", "drug"]), ends, ends), max_size=4))
    # As the decoder places them: not empty, nested or apart, never crossing.
    entities: list[tuple[str, int, int]] = []
    for kind, start, end in drawn:
        crossing = any(s < start < e < end or start < s < end < e for _, s, e in entities)
        if start < end and not crossing:
            entities.append((kind, start, end))
    page = notes_page([("n", text, entities, [])])
    Tags(page)
    assert text_of(page) == text
    assert body_of(page).count("<mark") == len(set(entities))
