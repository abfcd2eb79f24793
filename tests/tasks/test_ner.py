from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora.corpora.note import Annotates, Entity, Note
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.tasks.assemble import assemble_entities
from fedmedlora.tasks.kinds import ner
from fedmedlora.tasks.markup import parse, place

ALL = Annotates(frozenset(CLINICAL.entities), frozenset(CLINICAL.pair_names()))
TEXT = "Denies chest pain.\r\nTook aspirin <problem> & CT."
#       0      7     13   18   20   25      33          45
SEGMENTS = ((0, 18), (20, 48))


def note(*entities: Entity, annotates: Annotates = ALL, text: str = TEXT) -> Note:
    return Note("n", text, entities, (), (), annotates)


def test_one_example_per_segment() -> None:
    entities = (Entity("a", "problem", ((7, 17),)), Entity("b", "drug", ((25, 32),)))
    rendered = ner.examples(note(*entities), SEGMENTS, CLINICAL, with_gold=True)
    assert rendered.unplaced == ()
    first, second = rendered.examples
    assert (first.id, first.note_id, first.task, first.entity_id) == ("n/0", "n", "ner", "")
    assert first.input == ("Denies", " chest", " pain", ".")
    assert first.target == ("Denies", "<problem>", " chest", " pain", "</problem>", ".")
    assert first.labels == ("problem", "treatment", "drug", "test")
    assert first.instruction == second.instruction
    assert "".join(second.target) == "Took<drug> aspirin</drug> <problem> & CT."


def test_without_gold_the_target_is_empty_and_nothing_is_unplaced() -> None:
    rendered = ner.examples(note(Entity("a", "problem", ((7, 25),))), SEGMENTS, CLINICAL, with_gold=False)
    assert [e.target for e in rendered.examples] == [(), ()]
    assert rendered.unplaced == ()


def test_asked_for_is_what_the_source_annotates() -> None:
    annotates = Annotates(frozenset({"test", "drug"}), frozenset())
    rendered = ner.examples(
        note(Entity("a", "problem", ((7, 17),)), annotates=annotates), SEGMENTS, CLINICAL, with_gold=True
    )
    assert rendered.examples[0].labels == ("drug", "test")  # canonical order
    assert "problem:" not in rendered.examples[0].instruction
    assert rendered.unplaced == (ner.Unplaced("n", "entity", "a", "not asked for"),)


def test_a_source_that_annotates_no_entity_gives_no_examples() -> None:
    nothing = Annotates(frozenset(), frozenset())
    assert ner.examples(note(annotates=nothing), SEGMENTS, CLINICAL, with_gold=True) == ner.Rendered((), ())
    odd = note(Entity("a", "drug", ((25, 32),)), annotates=nothing)
    lost = ner.examples(odd, SEGMENTS, CLINICAL, with_gold=True).unplaced
    assert lost == (ner.Unplaced("n", "entity", "a", "not asked for"),)  # never dropped in silence


def test_no_segments_no_entities_no_text() -> None:
    assert ner.examples(note(text=""), (), CLINICAL, with_gold=True) == ner.Rendered((), ())
    (only,) = ner.examples(note(), SEGMENTS[:1], CLINICAL, with_gold=True).examples
    assert only.target == only.input


def test_entities_that_no_segment_holds() -> None:
    entities = (
        Entity("over", "problem", ((13, 24),)),
        Entity("two parts", "problem", ((0, 6), (25, 32))),
        Entity("between", "problem", ((18, 20),)),
        Entity("in one", "problem", ((0, 6), (13, 17))),
    )
    lost = ner.examples(note(*entities), SEGMENTS, CLINICAL, with_gold=True).unplaced
    assert [(u.id, u.reason) for u in lost] == [
        ("over", "crosses sentences"),
        ("two parts", "crosses sentences"),
        ("between", "crosses sentences"),
        ("in one", "discontinuous"),
    ]


@st.composite
def notes(draw: st.DrawFn) -> tuple[Note, list[tuple[int, int]]]:
    words = ["pain", " chest", "10mg", " <problem>", "&lt;", "<", "\r\n", "\t", "é", "  ", ".", "-", " a"]
    text = "".join(draw(st.lists(st.sampled_from(words), min_size=1, max_size=20)))
    borders = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=3))})
    segments = list(pairwise(borders))
    entities = []
    for i in range(draw(st.integers(0, 6))):
        points = sorted(draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=4)))
        halves = [points[k : k + 2] for k in range(0, len(points) - 1, 2)]
        span = tuple((s, e) for s, e in halves)
        entities.append(Entity(f"T{i}", draw(st.sampled_from(CLINICAL.entities)), span))
    return note(*entities, text=text), segments


@settings(max_examples=300)
@given(notes(), st.booleans())
def test_what_is_placed_comes_back_and_the_rest_is_reported(
    case: tuple[Note, list[tuple[int, int]]], as_text: bool
) -> None:
    gold, segments = case
    rendered = ner.examples(gold, segments, CLINICAL, prompt_set="short", with_gold=True)
    results = []
    for example in rendered.examples:
        assert "".join(example.input) == "".join(piece.form for piece in example.pieces)
        if as_text:
            parsed = parse(example.pieces, "".join(example.target), example.labels)
            assert parsed.complete
            results.append((example, parsed.mentions))
        else:
            results.append((example, place(example.pieces, example.target)[0]))
    back = assemble_entities(gold.id, gold.text, gold.annotates, results)
    lost = [u.id for u in rendered.unplaced]
    assert len(set(lost)) == len(lost)
    kept = {(e.type, e.span) for e in gold.entities if e.id not in lost}
    assert {(e.type, e.span) for e in back} == kept
    assert len(back) == len(gold.entities) - len(lost)
