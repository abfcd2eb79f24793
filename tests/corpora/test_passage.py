"""A passage of a note holds what stands in it, at the right places, and cuts nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedmedlora.corpora.note import Annotates, Entity, Link, Note, surface
from fedmedlora.corpora.passage import passage
from fedmedlora.corpora.sentences import sentences
from fedmedlora.corpora.synthetic import HOSPITALS, synthesize
from fedmedlora.evaluation.counts import Counts
from fedmedlora.evaluation.score import score_note
from fedmedlora.tasks.training_set import sample_notes

SCOPE = Annotates(frozenset({"problem"}), frozenset({"problem.severity"}))


def note(*lines: str, spans=(), modifiers=(), links=(), note_id="n") -> Note:
    text = "\n".join(lines)

    def found(number, word, kind):
        start = text.index(word)
        return Entity(f"{kind[0]}{number}", kind, ((start, start + len(word)),))

    return Note(
        note_id,
        text,
        tuple(found(i, word, "problem") for i, word in enumerate(spans)),
        tuple(found(i, word, "severity") for i, word in enumerate(modifiers)),
        tuple(Link(*link) for link in links),
        SCOPE,
        group="g",
        meta={"k": "v"},
    )


def surfaces(of: Note) -> list[str]:
    return [surface(of.text, one.span) for one in (*of.entities, *of.modifiers)]


FIVE = ("First ache.", "Mild pain here.", "Third itch.", "Fourth rash.", "Fifth burn.")


def test_a_note_that_is_no_longer_is_left_alone():
    whole = note(*FIVE, spans=["ache"])
    assert passage(whole, 5, seed=1, name="x") is whole
    assert passage(whole, 9, seed=1, name="x") is whole
    empty = note("")
    assert passage(empty, 1, seed=1, name="x") is empty


def test_what_stands_in_it_moves_with_it():
    whole = note(
        *FIVE, spans=["ache", "pain", "itch", "rash", "burn"], modifiers=["Mild"], links=[("p1", "s0")]
    )
    seen = set()
    for seed in range(40):
        part = passage(whole, 2, seed=seed, name="x")
        first = FIVE.index(part.text.split("\n")[0])
        seen.add(first)
        assert part.text == "\n".join(FIVE[first : first + 2])
        words = ["ache", "pain", "itch", "rash", "burn"][first : first + 2]
        assert surfaces(part) == [*words, *(["Mild"] if "pain" in words else [])]
        assert part.links == ((Link("p1", "s0"),) if "pain" in words else ())
        assert (part.id, part.group, part.meta, part.annotates) == ("n", "g", {"k": "v"}, SCOPE)
    assert seen == {0, 1, 2, 3}, "every place can be drawn"


def test_a_link_that_reaches_out_of_it_is_left_out():
    whole = note(*FIVE, spans=["itch"], modifiers=["Mild"], links=[("p0", "s0")])
    parts = [passage(whole, 1, seed=seed, name="x") for seed in range(40)]
    assert {(len(p.entities), len(p.modifiers), len(p.links)) for p in parts} == {
        (0, 0, 0),
        (1, 0, 0),
        (0, 1, 0),
    }


def test_what_is_not_scored_in_the_note_is_not_scored_in_a_passage():
    """A severity of a drug, where that of problems alone is annotated: cut from its drug it stays out."""
    whole = note(
        "Aspirin.", "Mild one.", "Third.", spans=["Aspirin"], modifiers=["Mild"], links=[("p0", "s0")]
    )
    whole = replace(whole, entities=tuple(replace(one, type="drug") for one in whole.entities))
    nothing = Counts(0, 0, 0)
    assert score_note(whole, None).modifiers.strict.micro() == nothing
    parts = [passage(whole, num, seed=seed, name="x") for num in (1, 2) for seed in range(20)]
    assert {score_note(part, None).modifiers.strict.micro() for part in parts} == {nothing}
    assert {len(part.modifiers) for part in parts} == {0, 1}, "beside its drug it stays"


def test_sentences_that_an_annotation_reaches_across_stay_together():
    whole = note("One.", "Two three", "four.", "Five.", spans=["three\nfour"])
    parts = {passage(whole, 1, seed=seed, name="x").text for seed in range(40)}
    assert parts == {"One.", "Two three\nfour.", "Five."}


def test_the_draw_depends_on_seed_name_and_note_alone():
    lines = [f"Line {i}." for i in range(100)]
    one = note(*lines)
    assert passage(one, 3, seed=1, name="x") == passage(one, 3, seed=1, name="x")
    others = [
        passage(one, 3, seed=2, name="x"),
        passage(one, 3, seed=1, name="y"),
        passage(note(*lines, note_id="m"), 3, seed=1, name="x"),
    ]
    assert all(other.text != passage(one, 3, seed=1, name="x").text for other in others)


def test_a_passage_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        passage(note("x"), 0, seed=1, name="x")


def test_the_same_number_of_sentences_comes_from_more_notes():
    notes = synthesize(HOSPITALS[0], 12, 1, "test")
    whole = sample_notes(notes, max_sentences=24, seed=1, name="x")
    parts = sample_notes(notes, max_sentences=24, seed=1, name="x", passage_sentences=4)
    assert len(parts) == 6 > len(whole)
    by_id = {n.id: n for n in notes}
    for part in parts:
        marked = [(e.start, e.end) for e in (*part.entities, *part.modifiers)]
        assert len(sentences(part.text, keep=marked)) == 4
        assert part.text in by_id[part.id].text
        assert set(surfaces(part)) <= set(surfaces(by_id[part.id]))
    assert {n.id for n in whole} <= {n.id for n in parts}, "the draw of notes is the same"
    every = sample_notes(notes, max_sentences=0, seed=1, name="x", passage_sentences=4)
    assert [n.id for n in every] == [n.id for n in notes]
    assert every[0].text != notes[0].text
