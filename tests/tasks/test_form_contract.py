"""The laws of ``tasks/form.py``, held against every form file there is."""

from __future__ import annotations

import importlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora.corpora.note import Entity
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.form import Reading, known_forms, load_form
from fedmedlora.tasks.markup import Mention
from fedmedlora.tasks.pieces import pieces

FORMS = known_forms()
LABELS = ("problem", "drug", "test")

# Texts with what makes trouble: repeated words, tags, escapes, quotes, white space, other scripts.
WORDS = (
    "pain",
    "painful",
    "no",
    " ",
    "  ",
    "\n",
    "\t",
    "<",
    "&lt;",
    "&",
    '"',
    "'",
    "\\",
    "{",
    "}",
    "[]",
    ",",
    "µ",
)
MORE = (
    "5",
    "mg",
    "é",
    "\u0301",
    "😀",
    "胸痛",
    "\x7f",
    "\u2028",
    "</problem>",
    "<drug>",
    "<p",
    " <t",
    "</",
    ".",
    "-",
)
texts = st.lists(st.sampled_from(WORDS + MORE), max_size=12).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=30
)


def an_example(text: str, form: str, offset: int = 0) -> Example:
    cut = pieces("x" * offset + text, offset, offset + len(text))
    return Example("n/0", "n", "ner", "", load_form(form).written(cut), cut, LABELS, (), form=form)


@st.composite
def sentences_with_entities(draw):
    text = draw(texts)
    offset = draw(st.integers(0, 3))
    found = []
    for number in range(draw(st.integers(0, 5)) if text else 0):
        start = draw(st.integers(0, len(text) - 1))
        end = draw(st.integers(start, len(text)))
        span = ((offset + start, offset + end),)
        if end - start > 4 and draw(st.booleans()):
            span = ((offset + start, offset + start + 1), (offset + end - 2, offset + end))
        found.append(Entity(f"T{number}", draw(st.sampled_from((*LABELS, "other"))), span))
    return text, offset, tuple(found)


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=200, deadline=None)
@given(given_sentence=sentences_with_entities())
def test_what_is_placed_comes_back_and_the_rest_is_returned(name, given_sentence):
    text, offset, entities = given_sentence
    how, example = load_form(name), an_example(text, name, offset)
    target, unplaced = how.render(example.pieces, entities, LABELS)
    lost = {entity.id for entity, _ in unplaced}
    placed = {Mention(e.type, e.start, e.end) for e in entities if e.id not in lost}
    reading = how.read(example, "".join(target))
    assert set(reading.mentions) == placed
    assert (reading.complete, reading.num_ungrounded) == (True, 0)
    assert len(unplaced) == len(lost)
    assert all(reason for _, reason in unplaced)
    again = how.render(example.pieces, entities[::-1], LABELS)
    assert again[0] == target or name in ("markup", "compact"), (
        "the order in which the gold stands plays no role"
    )


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=200, deadline=None)
@given(text=texts, answer=texts | st.text(max_size=60))
def test_any_answer_can_be_read(name, text, answer):
    how, example = load_form(name), an_example(text, name, 2)
    reading = how.read(example, answer)
    assert isinstance(reading, Reading)
    assert len(set(reading.mentions)) == len(reading.mentions)
    assert {m.label for m in reading.mentions} <= set(LABELS)
    assert all(2 <= m.start < m.end <= 2 + len(text) for m in reading.mentions)
    assert reading.num_ungrounded >= 0


HOSTILE = {
    "nested": '[{"type":' * 100_000,
    "brackets": "[" * 1_000_000,
    "braces": '{"' * 500_000,
    "tags": "<problem>" * 100_000,
    "quotes": '[{"type":"drug","text":"' + '\\"' * 500_000,
    "white": '[{"type":' + " " * 1_000_000,
    "number": '[{"type":"drug","text":"no","nth":' + "9" * 1_000_000 + "}]",
    "long": '[{"type":"drug","text":"' + "a" * 1_000_000 + '"}]',
    "many": "[" + '{"type":"drug","text":"no"},' * 40_000 + "]",
    "words": "no pain " * 120_000,
    "null": "\x00" * 1_000_000,
    "surrogate": "[" + '{"type":"drug","text":"\\ud800"},' * 1000 + "]",
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", FORMS)
def test_a_hostile_answer_is_read_in_time(name, answer):
    example = an_example("no pain, no painful knee", name)
    if name in ("markup", "compact"):  # linear too, and slower
        answer = answer[:100_000]
    began = time.perf_counter()
    reading = load_form(name).read(example, answer)
    assert time.perf_counter() - began < 20  # a second or two; squared it would be hours
    assert len(reading.mentions) < 10


@pytest.mark.parametrize("name", FORMS)
def test_the_input_is_a_function_of_the_pieces(name):
    how = load_form(name)
    cut = pieces("no <b> & pain", 0, 13)
    assert how.written(cut) == how.written(tuple(cut))
    assert len(how.written(cut)) == len(cut)
    assert how.limit(0) > 0
    assert how.limit(100) > how.limit(10)


def test_found_by_file_and_by_nothing_else():
    assert FORMS == ("markup", "compact", "json", "tags")
    assert load_form("json") is importlib.import_module("fedmedlora.tasks.forms.json")
    for name in ("os", "..form", "forms.json", "", "JSON"):
        with pytest.raises(ValueError, match=r"unknown form .*; known forms: markup, compact, json, tags"):
            load_form(name)


def test_the_study_file_knows_every_form():
    from typing import get_args, get_type_hints

    from fedmedlora.study_tables import Tasks

    assert get_args(get_type_hints(Tasks)["form"]) == FORMS
