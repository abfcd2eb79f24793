"""The laws of ``tasks/task.py``, held against every task file there is."""

from __future__ import annotations

import importlib
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.corpora.sentences import sentences
from fedmedlora.corpora.synthetic import HOSPITALS, synthesize
from fedmedlora.tasks.assemble import merge
from fedmedlora.tasks.form import known_forms, load_form
from fedmedlora.tasks.markup import Mention
from fedmedlora.tasks.prompts import instruction, prompt_sets
from fedmedlora.tasks.task import askers, finders, known_tasks, load_task

NOTHING = Annotates(frozenset(), frozenset())
EVERYTHING = Annotates(frozenset(CLINICAL.entities), frozenset(CLINICAL.pair_names()))
SYNTHETIC = [note for name in HOSPITALS for note in synthesize(name, 2, 4, "train")]
TASKS = known_tasks()
FORMS = known_forms()


def disturbed(note: Note, seed: int) -> Note:
    """``note`` with some spans moved, split or nested, so that not everything can be expressed."""
    rng = random.Random(seed)

    def moved(mention: Entity) -> Entity:
        start, end = mention.start, mention.end
        kind = rng.randrange(6)
        if kind == 0:
            end = min(len(note.text), end + rng.randrange(1, 9))
        elif kind == 1 and end - start > 4:
            return replace(mention, span=((start, start + 1), (end - 2, end)))
        elif kind == 2:
            start = max(0, start - rng.randrange(1, 9))
        return replace(mention, span=((start, end),))

    entities = tuple(moved(e) for e in note.entities)
    return replace(note, entities=entities, modifiers=tuple(moved(m) for m in note.modifiers))


def ask(task, note: Note, *, with_gold: bool, prompt_set: str = "short", form: str = "markup"):
    segments = sentences(note.text)
    return task.examples(note, segments, CLINICAL, prompt_set=prompt_set, form=form, with_gold=with_gold)


def start_of(task, note: Note) -> Note:
    entities = note.entities if task.NEEDS_ENTITIES else ()
    return replace(note, entities=entities, modifiers=(), links=())


def entity_items(note: Note) -> set:
    return {(e.type, e.span) for e in note.entities}


def link_items(note: Note) -> set:
    by_id = {m.id: (m.type, m.span) for m in (*note.entities, *note.modifiers)}
    return {(by_id[link.entity], by_id[link.modifier]) for link in note.links}


def gold_notes():
    return st.builds(
        lambda note, seed: disturbed(note, seed) if seed else note,
        st.sampled_from(SYNTHETIC),
        st.integers(0, 10_000),
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TASKS)
@settings(max_examples=30, deadline=None)
@given(note=gold_notes())
def test_what_is_expressed_comes_back_and_the_rest_is_returned(name, form, note):
    task, how = load_task(name), load_form(form)
    rendered = ask(task, note, with_gold=True, form=form)
    answers = [(e, how.read(e, "".join(e.target)).mentions) for e in rendered.examples]
    back = task.annotate(start_of(task, note), answers)
    lost = {(u.kind, u.id) for u in rendered.unplaced}
    if not task.NEEDS_ENTITIES:
        kept = {(e.type, e.span) for e in note.entities if ("entity", e.id) not in lost}
        assert entity_items(back) == kept
        return
    assert back.entities == note.entities
    kept_links = tuple(k for k in note.links if ("link", f"{k.entity}>{k.modifier}") not in lost)
    assert link_items(back) == link_items(replace(note, links=kept_links))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TASKS)
@settings(max_examples=20, deadline=None)
@given(note=gold_notes())
def test_a_question_does_not_know_its_answer(name, form, note):
    task = load_task(name)
    told = ask(task, note, with_gold=True, form=form).examples
    asked = ask(task, start_of(task, note), with_gold=False, form=form).examples
    assert [replace(e, target=()) for e in told] == list(asked)
    assert all(e.target for e in told if e.pieces)
    assert {e.task for e in asked} <= {name}
    assert {e.form for e in asked} <= {form}
    assert {e.note_id for e in asked} <= {note.id}
    assert len({e.id for e in asked}) == len(asked)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TASKS)
def test_nothing_is_asked_where_nothing_is_annotated(name, form):
    task = load_task(name)
    note = SYNTHETIC[0]
    assert task.labels(CLINICAL, NOTHING) == ()
    assert ask(task, replace(note, annotates=NOTHING), with_gold=True, form=form).examples == ()
    empty = replace(note, text="", entities=(), modifiers=(), links=())
    assert ask(task, empty, with_gold=True, form=form).examples == ()
    with pytest.raises(ValueError, match="nothing of schema 'clinical' that it asks for"):
        instruction(name, CLINICAL, NOTHING, form=form)


@pytest.mark.parametrize("name", TASKS)
@settings(max_examples=20, deadline=None)
@given(note=gold_notes(), seed=st.integers(0, 10_000))
def test_any_answer_can_be_annotated(name, note, seed):
    task = load_task(name)
    rng = random.Random(seed)
    asked = ask(task, start_of(task, note), with_gold=False).examples
    answers = []
    for example in asked:
        solid = [p for p in example.pieces if p.is_solid]
        spans = [sorted(rng.sample(range(len(solid)), 2)) for _ in range(3) if len(solid) > 1]
        mentions = {Mention(rng.choice(example.labels), solid[a].start, solid[b].end) for a, b in spans}
        answers.append((example, tuple(mentions)))
    rng.shuffle(answers)
    found = task.annotate(start_of(task, note), answers)
    allowed = set(task.labels(CLINICAL, note.annotates))
    added = found.modifiers if task.NEEDS_ENTITIES else found.entities
    assert {m.type for m in added} <= allowed
    assert all(0 <= m.start < m.end <= len(note.text) for m in added)
    assert bool(added) == any(mentions for _, mentions in answers)
    assert found.text == note.text
    assert found.annotates == note.annotates
    assert task.annotate(start_of(task, note), answers[::-1]) == found, "order plays no role"


@pytest.mark.parametrize("prompt_set", prompt_sets())
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TASKS)
def test_every_set_of_prompts_has_a_text_for_it_in_every_form(name, form, prompt_set):
    assert instruction(name, CLINICAL, EVERYTHING, prompt_set=prompt_set, form=form)


def test_found_by_file_and_by_nothing_else():
    assert "ner" in finders(TASKS)
    assert "modifiers" in askers(TASKS)
    assert finders(TASKS[::-1]) + askers(TASKS[::-1]) == TASKS
    assert load_task("ner") is importlib.import_module("fedmedlora.tasks.kinds.ner")
    for name in ("os", "..task", "kinds.ner", "", "NER"):
        with pytest.raises(ValueError, match=r"unknown task .*; known tasks: "):
            load_task(name)


def test_parts_of_two_tasks_make_one_note():
    note = Note("n", "no pain, 5 mg aspirin", (), (), (), EVERYTHING)
    pain, aspirin = Entity("E1", "problem", ((3, 7),)), Entity("E1", "drug", ((14, 21),))
    no, dose = Entity("M1", "negation", ((0, 2),)), Entity("M1", "strength", ((9, 13),))
    one = replace(note, entities=(pain,), modifiers=(no,), links=(Link("E1", "M1"),))
    two = replace(note, entities=(aspirin,), modifiers=(dose,), links=(Link("E1", "M1"),))
    both = merge([one, two])
    assert merge([one]) == one
    assert entity_items(both) == entity_items(one) | entity_items(two)
    assert link_items(both) == link_items(one) | link_items(two)
    assert [e.id for e in both.entities] == ["E1", "E2"]
    assert [m.id for m in both.modifiers] == ["M1", "M2"]
    assert merge([two, one]) == replace(both, links=both.links[::-1])
    assert merge([both, one]) == both, "what two tasks found is one"
