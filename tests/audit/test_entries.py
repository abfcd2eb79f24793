"""What an entry takes, and that no text of a note is among it."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from typing import get_args

import pytest

from fedmedlora.audit import sorts
from fedmedlora.audit.entries import (
    KINDS,
    Admission,
    Entry,
    Head,
    Refusal,
    error_name,
    head_of,
    kind_of,
    read_entry,
)
from fedmedlora.audit.sorts import plain_words, to_record, told

NOTE = "Mr Doe, 71, denies chest pain; started on aspirin 81 mg daily."
HOSTILE = [
    NOTE,
    NOTE * 100,
    "\x1b[2J\x1b]0;owned\x07",
    "lakeside\n{}",
    "..",
    "../../etc",
    "-rf",
    "\u202eevil",
    "é" * 3,
    "\ud800",
    "\0",
    " ",
    "A" * 100_000,
]
OTHERS = [
    None,
    True,
    -1,
    2**54,
    1.5,
    float("nan"),
    float("inf"),
    [],
    {},
    [NOTE],
    {NOTE: NOTE},
    b"x",
    object(),
]


def test_every_kind_is_known_and_goes_there_and_back(every_kind):
    assert sorted(map(kind_of, every_kind)) == sorted(KINDS)
    assert set(get_args(Entry)) == set(KINDS.values())
    for entry in every_kind:
        assert read_entry(kind_of(entry), to_record(entry)) == entry


@pytest.mark.parametrize("kind", ["", "note", "Log", None, 3, ["log"], "log "])
def test_an_unknown_kind_is_refused(kind):
    with pytest.raises(ValueError, match="of no known kind; known: log, repaired"):
        read_entry(kind, {})


# A site's words of refusal, and a round's words of why somebody was absent, which may hold them.
WORDS = {(Refusal, "words"), (Admission, "reason")}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_field_takes_the_text_of_a_note(every_kind, text):
    """Each field of each kind, in place, in a list, as a key and as a value. Words are the one exception."""
    tried = 0
    for entry in every_kind:
        for each in fields(entry):
            good = getattr(entry, each.name)
            bad = [text, [text], {text: text}]
            if isinstance(good, dict):
                bad += [good | {text: next(iter(good.values()))}, dict.fromkeys(good, text)]
            if isinstance(good, tuple):
                bad += [(*good, text)]
            for value in bad:
                if (type(entry), each.name) in WORDS and value == plain_words(text):
                    continue  # see the next test
                with pytest.raises(ValueError, match=r".") as caught:
                    replace(entry, **{each.name: value})
                assert "Doe" not in str(caught.value)
                with pytest.raises(ValueError, match=r"."):
                    read_entry(kind_of(entry), to_record(entry) | {each.name: value})
                tried += 1
    assert tried > 150


def test_words_are_cut_and_hold_nothing_that_steers_a_terminal(every_kind):
    (refusal,) = (entry for entry in every_kind if isinstance(entry, Refusal))
    for text in HOSTILE:
        words = plain_words(text)
        assert len(words) <= 300
        assert words.isprintable()
        assert replace(refusal, words=words).words == words
    with pytest.raises(ValueError, match="not at most 300 printable characters"):
        replace(refusal, words="a" * 301)
    assert plain_words("a\x1b[2Jb\r\n") == "a [2Jb  "


@pytest.mark.parametrize("value", OTHERS, ids=range(len(OTHERS)))
def test_no_field_takes_what_is_of_another_sort(every_kind, value):
    for entry in every_kind:
        for each in fields(entry):
            sort = each.metadata["sort"]
            allowed = (
                (value is None and isinstance(sort, sorts.Maybe))
                or (isinstance(value, bool) and isinstance(sort, sorts.Flag))
                or (value == [] and isinstance(sort, sorts.ListOf))
                or (value == {} and isinstance(sort, sorts.TableOf))
            )
            if allowed:
                replace(entry, **{each.name: value})
            else:
                with pytest.raises(ValueError, match=f"{each.name}"):
                    replace(entry, **{each.name: value})


def test_fields_too_many_and_too_few_are_refused(every_kind):
    for entry in every_kind:
        record, kind = to_record(entry), kind_of(entry)
        with pytest.raises(ValueError, match="does not belong here"):
            read_entry(kind, record | {"text": NOTE})
        for name in record:
            with pytest.raises(ValueError, match=f"{name} is missing"):
                read_entry(kind, {key: value for key, value in record.items() if key != name})
        with pytest.raises(ValueError, match="no table"):
            read_entry(kind, [record])


def test_text_that_is_no_plain_name_is_told_by_its_hash():
    for plain in ("fed_medlora", "0.1.0+cpu", "org/model-7b", "single_site:lakeside", "2026-11-29"):
        assert told(plain) == plain
    assert told("abc d") == f"sha256:{hashlib.sha256(b'abc d').hexdigest()}"
    for text in HOSTILE:
        assert sorts.PLAIN.take(told(text), "x").startswith("sha256:")


def test_heads_and_errors_of_the_other_side():
    assert head_of("ab" * 32, 3) == Head("ab" * 32, 3)
    for wrong in (("ab", 3), ("ab" * 32, 0), ("ab" * 32, "3"), (None, None), (NOTE, 1), ("ab" * 32, True)):
        assert head_of(*wrong) is None
    assert error_name(ValueError(NOTE)) == "ValueError"
    assert error_name(type("Ünï", (Exception,), {})()) == "unnamed"
    assert error_name(type("A" * 81, (Exception,), {})()) == "unnamed"
