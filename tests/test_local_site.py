"""A site's notes under the study's terms: what is held out is not trained on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedmedlora.corpora.jsonl import NoteSet
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.corpora.synthetic import synthesize
from fedmedlora.local_site import hold_out, prepare_site
from fedmedlora.study_tables import Tasks
from fedmedlora.terms import Terms

TERMS = Terms(
    seed=1,
    base_model="",
    tokenizer="",
    frame=("", ""),
    prompts="",
    tasks=Tasks(prompts="short", max_tokens=100_000),
)


@pytest.fixture(scope="module")
def notes():
    return synthesize("lakeside", 8, 1, "train")


def test_nothing_is_held_out_where_nobody_asks(notes):
    assert hold_out(notes, TERMS, "lakeside") == ((), notes)


def test_held_out_and_trained_on_are_apart_and_together_everything(notes):
    terms = replace(TERMS, held_out_sentences=10)
    out, rest = hold_out(notes, terms, "lakeside")
    assert out
    assert rest
    assert sorted(note.id for note in (*out, *rest)) == sorted(note.id for note in notes)
    assert hold_out(notes, terms, "lakeside") == (out, rest)  # the same every time a process begins
    assert hold_out(notes, replace(terms, seed=2), "lakeside") != (out, rest)


def test_a_patients_notes_and_copies_of_a_text_stay_together(notes):
    terms = replace(TERMS, held_out_sentences=1)
    (first, *_), _ = hold_out(notes, terms, "lakeside")
    number = notes.index(first)
    same_patient = replace(notes[number - 1], group="patient 1")
    copy = replace(first, id="copy", group="")
    changed = [*notes, copy]
    changed[number] = replace(first, group="patient 1")
    changed[number - 1] = same_patient
    for seed in range(20):
        out, rest = hold_out(changed, replace(terms, seed=seed), "lakeside")
        apart = {"patient 1"} & {n.group for n in out} & {n.group for n in rest}
        assert not apart
        assert not {n.text for n in out} & {n.text for n in rest}


def test_a_site_with_held_out_notes(notes, encoder):
    train = NoteSet(notes, {"synthetic": True})
    whole = prepare_site(TERMS, encoder, CLINICAL, "lakeside", train, None, source="train.jsonl")
    site = prepare_site(
        replace(TERMS, held_out_sentences=5), encoder, CLINICAL, "lakeside", train, None, source="train.jsonl"
    )
    assert whole.held_out == ()
    assert site.held_out
    assert site.record["num_train_notes"] < whole.record["num_train_notes"] == 8
    assert not {e.example.id for e in site.held_out} & {e.example.id for e in site.examples}


def test_a_site_that_holds_out_everything_is_told_what_to_change(notes, encoder):
    train = NoteSet(notes[:1], {})
    with pytest.raises(ValueError, match=r"no example to train on .* held_out_sentences"):
        prepare_site(
            replace(TERMS, held_out_sentences=5),
            encoder,
            CLINICAL,
            "lakeside",
            train,
            None,
            source="train.jsonl",
        )
