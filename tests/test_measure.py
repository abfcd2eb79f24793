"""Predictions and their scores, with a reader that answers from a list."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedmedlora import measure
from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.corpora.sentences import sentences
from fedmedlora.measure import Form, predict, scores
from fedmedlora.model.lora import attach_lora
from fedmedlora.tasks.form import known_forms
from fedmedlora.tasks.kinds import ner
from fedmedlora.tasks.markup import render
from fedmedlora.tasks.task import load_task

ALL = Annotates(frozenset(CLINICAL.entities), frozenset(CLINICAL.pair_names()))


def note(note_id: str, text: str, entities=(), modifiers=(), links=(), annotates=ALL) -> Note:
    def spans(found, letter):
        made = []
        for i, (kind, surface) in enumerate(found):
            start = text.index(surface)
            made.append(Entity(f"{letter}{i}", kind, ((start, start + len(surface)),)))
        return tuple(made)

    return Note(
        note_id, text, spans(entities, "E"), spans(modifiers, "M"), tuple(Link(*k) for k in links), annotates
    )


PAIN = note(
    "pain", "No severe chest pain today.", [("problem", "chest pain")],
    [("severity", "severe"), ("negation", "No")], [("E0", "M0"), ("E0", "M1")],
)  # fmt: skip
DRUG = note("drug", "Takes aspirin 81 mg. Denies fever.", [("drug", "aspirin"), ("problem", "fever")])
NOTHING = note("nothing", "Seen in clinic.")
EMPTY = note("empty", "")


@pytest.fixture
def answer(monkeypatch):
    """``answer(function)``: what the model writes for an example; ``answer.read``: what it was asked."""
    asked = []

    def install(function):
        def decode(model, encoder, examples, *, batch_size, progress):
            asked.extend(examples)
            for i in range(len(examples)):
                progress(i + 1, len(examples))
            return [(output, (0.5,) * len(output)) for output in map(function, examples)]

        def generate(model, encoder, examples, *, batch_size, share_prefix, under_grammar, progress):
            asked.extend(examples)
            install.under_grammar.add(under_grammar)
            return ["".join(function(e)) for e in examples]

        monkeypatch.setattr(measure, "decode_scored", decode)
        monkeypatch.setattr(measure, "generate_texts", generate)

    install.read = asked
    install.under_grammar = set()
    return install


class Base:
    encoder = None


def run(notes, form, report=lambda done, total: None):
    return predict(Base, None, notes, form, report)


def copy(example):
    return tuple(p.form for p in example.pieces)


def mark(example, found):
    """The example's text with ``(label, surface)`` pairs marked where they occur."""
    text = "".join(copy(example))
    entities = []
    for label, surface in found:
        if label in example.labels and surface in text:
            start = example.pieces[0].start + text.index(surface)
            entities.append(Entity(surface, label, ((start, start + len(surface)),)))
    return render(example.pieces, entities, example.labels)[0]


def perfect(example):
    kinds = {
        "ner": [("problem", "chest pain"), ("drug", "aspirin"), ("problem", "fever")],
        "modifiers": [("severity", "severe"), ("negation", "No")],
    }
    return mark(example, kinds[example.task])


NOTES = (PAIN, DRUG, NOTHING, EMPTY)


@pytest.mark.parametrize("decoding", ["constrained", "free"])
def test_a_perfect_reader_scores_one(answer, decoding):
    answer(perfect)
    form = Form(CLINICAL, decoding=decoding)
    found = run(NOTES, form)
    assert list(found.end_to_end) == list(found.given_gold) == [n.id for n in NOTES]
    assert found.num_unparsed == 0
    for name, one in scores(NOTES, found, form, num_resamples=10, seed=0).items():
        for how in ("strict", "lenient"):
            assert one[how]["f1"] == 1.0, name
            assert one[how]["fp"] == one[how]["fn"] == 0
    # Sentences: pain 1, drug 2, nothing 1, empty 0. Modifiers of 3 entities: asked twice, read
    # once, because the predicted entities are the gold ones.
    assert found.num_examples == 4 + 3


def test_right_entities_are_asked_for_their_modifiers_once(answer):
    answer(perfect)
    run(NOTES, Form(CLINICAL))
    tasks = [e.task for e in answer.read]
    assert (tasks.count("ner"), tasks.count("modifiers")) == (4, 3)


def test_a_reader_that_finds_nothing(answer):
    answer(copy)
    form = Form(CLINICAL)
    found = scores(NOTES, run(NOTES, form), form, num_resamples=0, seed=0)
    strict = found["entities"]["strict"]
    assert (strict["tp"], strict["fp"], strict["fn"], strict["f1"]) == (0, 0, 3, 0.0)
    assert strict["interval"] is None
    assert found["links_gold"]["strict"]["fn"] == 2


def test_nothing_to_find_and_nothing_found_is_undefined(answer):
    answer(copy)
    form = Form(CLINICAL)
    found = scores((NOTHING, EMPTY), run((NOTHING, EMPTY), form), form, num_resamples=5, seed=0)
    assert found["entities"]["strict"]["f1"] is None
    assert scores((), run((), form), form, num_resamples=0, seed=0)["entities"]["strict"]["f1"] is None


def test_gold_is_used_as_given_entities_only(answer):
    """A model that copies finds no modifier, and end to end has no entity to ask for, whatever the gold."""
    answer(copy)
    found = run((PAIN,), Form(CLINICAL))
    assert found.given_gold["pain"].entities == PAIN.entities
    assert found.given_gold["pain"].modifiers == ()
    assert found.end_to_end["pain"].entities == ()
    assert all(e.target == () for e in answer.read), "no gold in what is read"
    # With the gold left out of the notes, the same sentences are read for entities.
    before = [e.input for e in answer.read if e.task == "ner"]
    answer.read.clear()
    run((replace(PAIN, entities=(), modifiers=(), links=()),), Form(CLINICAL))
    assert [e.input for e in answer.read if e.task == "ner"] == before


def test_wrong_entity_costs_its_links_end_to_end(answer):
    def reader(example):
        if example.task == "ner":
            return mark(example, [("problem", "pain")])
        return mark(example, [("severity", "severe"), ("negation", "No")])

    answer(reader)
    form = Form(CLINICAL)
    found = scores((PAIN,), run((PAIN,), form), form, num_resamples=0, seed=0)
    assert found["entities"]["strict"]["tp"] == 0
    assert found["entities"]["lenient"]["tp"] == 1
    assert found["links_gold"]["strict"]["f1"] == 1.0
    assert found["links_end_to_end"]["strict"]["tp"] == 0
    assert found["links_end_to_end"]["lenient"]["f1"] == 1.0
    assert found["modifiers_end_to_end"]["strict"]["f1"] == 1.0


@pytest.mark.parametrize(
    ("settings", "measured"),
    [
        ({"tasks": ("ner",)}, {"entities"}),
        ({"tasks": ("modifiers",)}, {"modifiers_gold", "links_gold"}),
        ({"scope": "sentence"}, {"entities", "modifiers_gold", "modifiers_end_to_end"}),
    ],
)
def test_what_is_not_measured_is_null(answer, settings, measured):
    answer(perfect)
    form = Form(CLINICAL, **settings)
    found = scores(NOTES, run(NOTES, form), form, num_resamples=0, seed=0)
    assert {name for name, one in found.items() if one is not None} == measured


def test_asked_is_what_a_note_annotates(answer):
    answer(perfect)
    form = Form(CLINICAL, tasks=("ner",))
    drugs = Annotates(frozenset({"drug"}), frozenset())
    found = run((replace(DRUG, entities=DRUG.entities[:1], annotates=drugs),), form)
    assert [e.type for e in found.end_to_end["drug"].entities] == ["drug"]
    assert {e.labels for e in answer.read} == {("drug",)}


def test_free_answers_that_do_not_parse_are_counted(answer):
    answer(lambda example: ("I am sorry",) if "aspirin" in "".join(example.input) else copy(example))
    found = run(NOTES, Form(CLINICAL, tasks=("ner",), decoding="free"))
    assert (found.num_examples, found.num_unparsed, found.num_ungrounded) == (4, 1, 0)


@pytest.mark.parametrize("decoding", ["constrained", "free"])
def test_json_answers_are_read_and_what_they_invent_is_counted(answer, decoding):
    def wrong(example):
        text = "".join(example.input)
        return (
            '[{"type":"problem","text":"fever"},{"type":"problem","text":"gout"}]'
            if "fever" in text
            else "?",
        )

    answer(wrong)
    form = Form(CLINICAL, tasks=("ner",), output_form="json", decoding=decoding)
    found = run((note("a", "Denies fever."), note("b", "Well.")), form)
    assert [e.span for e in found.end_to_end["a"].entities] == [((7, 12),)]
    assert (found.num_examples, found.num_unparsed, found.num_ungrounded) == (2, 1, 1)
    assert answer.under_grammar == {decoding == "constrained"}
    assert {e.form for e in answer.read} == {"json"}


def test_a_perfect_json_reader_scores_one(answer):
    gold = {}
    for one in NOTES:
        for name in ("ner", "modifiers"):
            asked = load_task(name).examples(
                one, sentences(one.text), CLINICAL, prompt_set="study", form="json", with_gold=True
            )
            gold |= {(e.note_id, e.input, e.labels): e.target for e in asked.examples}
    answer(lambda e: gold[e.note_id, e.input, e.labels])
    form = Form(CLINICAL, output_form="json")
    found = run(NOTES, form)
    assert (found.num_unparsed, found.num_ungrounded) == (0, 0)
    for kind, score in scores(NOTES, found, form, num_resamples=0, seed=0).items():
        assert score["strict"]["f1"] == 1.0, kind


def test_equal_sentences_of_different_places_keep_their_own_offsets(answer):
    answer(lambda e: mark(e, [("problem", "fever")]))
    twice = note("twice", "Denies fever. Denies fever.")
    other = note("other", "So. Denies fever.")
    found = run((twice, other), Form(CLINICAL, tasks=("ner",)))
    assert [e.span for e in found.end_to_end["twice"].entities] == [((7, 12),), ((21, 26),)]
    assert [e.span for e in found.end_to_end["other"].entities] == [((11, 16),)]


def test_progress_counts_up_to_the_total(answer):
    answer(perfect)
    seen = []
    run(NOTES, Form(CLINICAL), lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert all(done <= total for done, total in seen)


@pytest.mark.parametrize("output_form", known_forms())
@pytest.mark.parametrize("decoding", ["constrained", "free"])
def test_the_real_model_gives_well_formed_notes(load, decoding, output_form):
    """Random weights: the predictions are nonsense, and still lie inside their notes."""
    base = load("llama")
    model = attach_lora(base.model, rank=2, alpha=4.0)
    form = Form(CLINICAL, prompt_set="short", output_form=output_form, decoding=decoding, batch_size=2)
    found = predict(base, model, (PAIN, NOTHING, EMPTY), form, lambda done, total: None)
    one = scores((PAIN, NOTHING, EMPTY), found, form, num_resamples=5, seed=0)
    assert one["entities"]["strict"]["fn"] + one["entities"]["strict"]["tp"] == 1
    for predicted in found.end_to_end.values():
        for mention in (*predicted.entities, *predicted.modifiers):
            assert 0 <= mention.start < mention.end <= len(predicted.text)


def test_examples_of_prediction_are_cut_by_the_text_alone():
    """What is predicted on must not depend on where the gold entities are."""
    across = replace(DRUG, entities=(Entity("E0", "drug", ((6, 33),)),))
    from fedmedlora.corpora.sentences import sentences

    one, two = (
        ner.examples(n, sentences(n.text), CLINICAL, with_gold=False).examples for n in (across, DRUG)
    )
    assert [e.pieces for e in one] == [e.pieces for e in two]
