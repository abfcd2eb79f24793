import pytest

from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.tasks.assemble import assemble_entities, assemble_note
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.markup import Mention

TEXT = "no pain, no rash"
ANNOTATES = Annotates(frozenset({"problem"}), frozenset({"problem.negation"}))
PAIN, RASH = Entity("E1", "problem", ((3, 7),)), Entity("E2", "problem", ((12, 16),))


def example(note_id: str = "n", entity_id: str = "") -> Example:
    return Example("n/0", note_id, "ner", "", (), (), ("problem",), (), entity_id)


def note() -> Note:
    gold = Entity("T9", "negation", ((0, 2),))
    return Note(
        "n", TEXT, (Entity("T1", "problem", ((3, 7),)),), (gold,), (Link("T1", "T9"),), ANNOTATES, "g"
    )


def test_entities_are_numbered_in_order_of_the_text() -> None:
    late = (example(), (Mention("problem", 12, 16),))
    early = (example(), (Mention("problem", 3, 7), Mention("problem", 0, 7), Mention("age", 0, 2)))
    found = assemble_entities("n", TEXT, ANNOTATES, [late, early, late])
    assert found == (
        Entity("E1", "problem", ((0, 7),)),
        Entity("E2", "problem", ((3, 7),)),
        Entity("E3", "problem", ((12, 16),)),  # once, though found twice; the type not annotated is left out
    )
    assert assemble_entities("n", TEXT, ANNOTATES, []) == ()


def test_modifiers_are_shared_and_links_are_not() -> None:
    no = Mention("negation", 0, 2)
    results = [
        (example(entity_id="E2"), (Mention("negation", 9, 11), no)),
        (example(entity_id="E1"), (no,)),
        (example(entity_id="E1"), (no,)),
    ]
    found = assemble_note(note(), (PAIN, RASH), results)
    assert found.modifiers == (Entity("M1", "negation", ((0, 2),)), Entity("M2", "negation", ((9, 11),)))
    assert found.links == (Link("E1", "M1"), Link("E2", "M1"), Link("E2", "M2"))
    assert (found.id, found.text, found.annotates, found.group) == ("n", TEXT, ANNOTATES, "g")
    assert found.entities == (PAIN, RASH)


def test_a_whole_sentence_links_nothing() -> None:
    found = assemble_note(note(), (PAIN,), [(example(), (Mention("negation", 0, 2),))])
    assert len(found.modifiers) == 1
    assert found.links == ()


def test_nothing_found_leaves_nothing_of_the_gold() -> None:
    found = assemble_note(note(), (), [])
    assert (found.entities, found.modifiers, found.links) == ((), (), ())


def test_examples_of_something_else() -> None:
    with pytest.raises(ValueError, match="belongs to note 'm', not to 'n'"):
        assemble_entities("n", TEXT, ANNOTATES, [(example("m"), ())])
    with pytest.raises(ValueError, match="about entity 'E7', which is not among the 1 entities"):
        assemble_note(note(), (PAIN,), [(example(entity_id="E7"), ())])
