"""Markup in short, worked by hand."""

from __future__ import annotations

import string

import pytest

from fedmedlora.corpora.note import Entity
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.form import load_form
from fedmedlora.tasks.forms.compact import CLOSE, read, render, tag_texts
from fedmedlora.tasks.markup import Mention
from fedmedlora.tasks.pieces import pieces

LABELS = ("problem", "treatment", "test", "drug")
TEXT = "Denies chest pain, a <p today"
#       0      7     13   18
PIECES = pieces(TEXT, 0, len(TEXT))
EXAMPLE = Example("n", "n", "ner", "Mark.", (), PIECES, LABELS, (), form="compact")


def entity(label: str, start: int, end: int) -> Entity:
    return Entity("T", label, ((start, end),))


def test_by_hand():
    target, unplaced = render(PIECES, [entity("problem", 7, 17), entity("test", 13, 17)], LABELS)
    assert "".join(target) == "Denies<p chest<e pain</</, a <p today"  # the last <p is the note's own
    assert unplaced == ()
    reading = read(EXAMPLE, "".join(target))
    assert reading.mentions == (Mention("problem", 7, 17), Mention("test", 13, 17))
    assert reading.complete


def test_a_label_has_the_first_of_its_letters_that_is_free():
    texts = tag_texts(("test", "treatment", "trial", "t"))
    assert [text for tag, text in texts.items() if not tag.startswith("</")] == ["<t", "<r", "<i", "<a"]
    assert {text for tag, text in texts.items() if tag.startswith("</")} == {CLOSE}
    assert tag_texts(("Übelkeit", "42"))["<42>"] == "<a"  # neither a digit nor an umlaut


def test_there_are_as_many_labels_as_letters():
    names = tuple(f"l{i}" for i in range(len(string.ascii_letters)))
    assert len(set(tag_texts(names).values())) == len(names) + 1
    with pytest.raises(ValueError, match="53 labels are too many for form compact"):
        tag_texts((*names, "more"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Denies <p chest pain</, today", [Mention("problem", 7, 17)]),  # a space too early, words left out
        ("Denies<p chest<e pain</", [Mention("test", 13, 17)]),  # what is still open is dropped
        ("Denies</ chest pain<d</", []),  # nothing open; empty
        ("<p chest pains</", []),  # not in the sentence
        ("denies<p chest pain</</</<d today</", [Mention("problem", 7, 17), Mention("drug", 24, 29)]),
        # What was opened before the text went wrong is still open where the rest is read.
        ("Denies<p chest  pain</, <p", [Mention("problem", 7, 17)]),
    ],
)
def test_damaged(text, found):
    reading = read(EXAMPLE, text)
    assert list(reading.mentions) == found
    assert not reading.complete


def test_the_prompt_tells_the_letters():
    from fedmedlora.corpora.note import Annotates
    from fedmedlora.corpora.schema import CLINICAL
    from fedmedlora.tasks.prompts import instruction, prompt_sets

    annotates = Annotates(frozenset(CLINICAL.entities), frozenset(CLINICAL.pair_names()))
    for prompt_set in prompt_sets():
        for task, mark in (("ner", "<t for treatment"), ("modifiers", "<i for negation")):
            told = instruction(task, CLINICAL, annotates, prompt_set=prompt_set, form="compact")
            assert mark in told
            assert CLOSE in told


def test_other_forms_write_tags_as_they_are():
    assert [load_form(name).tag_texts(LABELS) for name in ("markup", "json", "tags")] == [{}, {}, {}]
