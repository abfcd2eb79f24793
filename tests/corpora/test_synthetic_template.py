"""Templates: choices, macros, slots; and the builder that turns filled ones into exact offsets."""

from __future__ import annotations

import random

import pytest

from fedmedlora.corpora.note import Annotates, Link
from fedmedlora.corpora.synthetic import HOSPITALS, hospital
from fedmedlora.corpora.synthetic.builder import NoteBuilder
from fedmedlora.corpora.synthetic.fill import Filled, Filler, Patient
from fedmedlora.corpora.synthetic.template import EntitySlot, Literal, ModifierSlot, choose, expand, parse


def test_choices_nest_and_may_be_empty() -> None:
    drawn = {choose("a{b|{c|d}|}", random.Random(i)) for i in range(60)}
    assert drawn == {"ab", "ac", "ad", "a"}
    assert choose("plain", random.Random(1)) == "plain"


def test_macros_may_hold_choices() -> None:
    assert expand("@x  end", random.Random(1), lambda name: "{y|y}") == "y end"


def test_parse_finds_entities_modifiers_and_text() -> None:
    assert parse("[negation>p1,p2=no] [p1:symptom+finding] or [p2]") == (
        ModifierSlot("negation", ("p1", "p2"), "", "no"),
        Literal(" "),
        EntitySlot("p1", "problem", ("symptom", "finding"), ""),
        Literal(" or "),
        EntitySlot("p2", "problem", (), ""),
    )
    assert parse("") == ()
    assert parse("[temporal>t1:since][t1:scan.neurology]")[0] == ModifierSlot(
        "temporal", ("t1",), "since", ""
    )


def test_a_malformed_slot_is_our_bug() -> None:
    with pytest.raises(AssertionError, match="not well formed"):
        parse("[q1]")


def test_builder_links_one_modifier_to_two_entities() -> None:
    builder = NoteBuilder(Annotates(frozenset({"problem"}), frozenset({"problem.negation"})))
    builder.add("A: ")
    sentence = (
        Filled("no", "negation", targets=("p1", "p2")),
        Filled(" "),
        Filled("pain", "problem", "p1"),
        Filled(" or "),
        Filled("rash", "problem", "p2"),
    )
    builder.add_sentence(sentence, str.upper)
    note = builder.note("n", "g", {})
    assert note.text == "A: NO PAIN OR RASH"
    assert [e.span for e in note.entities] == [((6, 10),), ((14, 18),)]
    assert [m.span for m in note.modifiers] == [((3, 5),)]
    assert note.links == (Link("e1", "m1"), Link("e2", "m1"))


def test_builder_leaves_out_what_is_not_annotated_but_keeps_the_text() -> None:
    sentence = (
        Filled("left knee pain", "problem", "p1", part=9),
        Filled(" "),
        Filled("mild", "severity", targets=("p1",)),
        Filled(" "),
        Filled("surgery", "treatment", "r1"),
    )
    builder = NoteBuilder(Annotates(frozenset({"problem"}), frozenset({"problem.bodyloc"})))
    builder.add_sentence(sentence, str)
    note = builder.note("n", "", {})
    assert note.text == "left knee pain mild surgery"
    assert [(e.type, e.span) for e in note.entities] == [("problem", ((0, 14),))]
    assert [(m.type, m.span) for m in note.modifiers] == [("bodyloc", ((0, 9),))]

    bare = NoteBuilder(Annotates(frozenset(), frozenset()))
    bare.add_sentence(sentence, str)
    assert bare.note("n", "", {}).entities == bare.note("n", "", {}).modifiers == ()


def test_articles_and_capitals() -> None:
    filler = Filler(hospital("lakeside"), False, Patient("p", 80, True), random.Random(1), "cardiology")

    def written(template: str) -> str:
        return "".join(piece.text for piece in filler.sentence(template))

    assert written("we saw a [p1=ulcer] and a [p2=rash].") == "We saw an ulcer and a rash."
    assert written("a [t1=MRI], a [t2=CT scan], a [t3=urinalysis]") == "An MRI, a CT scan, a urinalysis"
    assert written("a @age year old @sex") == "An 80 year old woman"
    assert written("[p1=fever] came") == "Fever came"


@pytest.mark.parametrize("name", HOSPITALS)
@pytest.mark.parametrize("held_out", [False, True])
def test_every_template_of_every_hospital_can_be_written(name: str, held_out: bool) -> None:
    place = hospital(name)
    filler = Filler(place, held_out, Patient("p", 8, False), random.Random(0), next(iter(place.specialties)))
    used = {s.rstrip("?") for note in place.notes for s in note.sections}
    assert used == set(place.sections)
    for section in place.sections.values():
        for template in (*section.opening, *section.templates):
            for _ in range(8):
                text = "".join(piece.text for piece in filler.sentence(template))
                assert text == text.strip()
                assert not set("{}[]@") & set(text)
    for distractor in place.distractors:
        assert all(not piece.type for piece in filler.sentence(distractor))


@pytest.mark.parametrize("name", HOSPITALS)
def test_every_wording_of_every_hospital_is_reachable(name: str) -> None:
    place = hospital(name)
    templates = " ".join(t for s in place.sections.values() for t in (*s.opening, *s.templates))
    for key in place.words:
        kind = key.partition(".")[2]
        wanted = f":{kind}]" if kind and key != "dosage.number" else f"[{key.partition('.')[0]}>"
        assert wanted in templates, f"{name}: the words of {key} are never used"
