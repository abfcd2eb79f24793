import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.tasks.assemble import assemble_note
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.kinds import modifiers
from fedmedlora.tasks.markup import parse, place
from fedmedlora.tasks.pieces import pieces
from fedmedlora.tasks.task import Unplaced

ALL = Annotates(frozenset(CLINICAL.entities), frozenset(CLINICAL.pair_names()))
TEXT = "No severe pain or rash. Takes aspirin 81 mg since 2015."
SEGMENTS = ((0, 23), (24, 55))


def mark(name: str, label: str, surface: str) -> Entity:
    start = TEXT.index(surface)
    return Entity(name, label, ((start, start + len(surface)),))


PAIN, RASH, ASPIRIN = mark("p", "problem", "pain"), mark("r", "problem", "rash"), mark("a", "drug", "aspirin")
NO, SEVERE = mark("n", "negation", "No"), mark("s", "severity", "severe")
MG, SINCE = mark("m", "strength", "81 mg"), mark("t", "temporal", "since 2015")
LINKS = (Link("p", "n"), Link("r", "n"), Link("p", "s"), Link("a", "m"), Link("a", "t"))


def note(
    entities: tuple[Entity, ...] = (PAIN, RASH, ASPIRIN),
    mods: tuple[Entity, ...] = (NO, SEVERE, MG, SINCE),
    links: tuple[Link, ...] = LINKS,
    annotates: Annotates = ALL,
) -> Note:
    return Note("d", TEXT, entities, mods, links, annotates)


def examples(gold: Note, scope: str = "entity", with_gold: bool = True) -> tuple[Example, ...]:
    return modifiers.examples(
        gold, SEGMENTS, CLINICAL, prompt_set="short", scope=scope, with_gold=with_gold
    ).examples


def unplaced(gold: Note, scope: str = "entity") -> list[tuple[str, str, str]]:
    rendered = modifiers.examples(gold, SEGMENTS, CLINICAL, scope=scope, with_gold=True)
    return [(u.kind, u.id, u.reason) for u in rendered.unplaced]


def test_scope_entity() -> None:
    found = examples(note())
    assert [e.id for e in found] == ["d/0/p", "d/0/r", "d/1/a"]
    assert [e.entity_id for e in found] == ["p", "r", "a"]
    pain, rash, aspirin = found
    assert "".join(pain.input) == "No severe{problem: pain} or rash."
    assert (
        "".join(pain.target) == "<negation>No</negation><severity> severe</severity>{problem: pain} or rash."
    )
    assert "".join(rash.target) == "<negation>No</negation> severe pain or{problem: rash}."
    assert pain.labels == CLINICAL.modifiers_of("problem")
    assert "".join(aspirin.input) == "Takes{drug: aspirin} 81 mg since 2015."
    assert aspirin.labels == CLINICAL.modifiers_of("drug")
    assert len({e.instruction for e in found}) == 1  # one prefix, whatever the type in focus
    assert unplaced(note()) == []


def test_scope_sentence() -> None:
    first, second = examples(note(), "sentence")
    assert (first.id, first.entity_id) == ("d/0", "")
    assert "".join(first.input) == "No severe{problem: pain} or{problem: rash}."
    assert (
        "".join(first.target)
        == "<negation>No</negation><severity> severe</severity>{problem: pain} or{problem: rash}."
    )
    assert first.labels == CLINICAL.modifiers_of("problem")
    assert second.labels == CLINICAL.modifiers_of("drug")
    assert unplaced(note(), "sentence") == []


def test_an_entity_without_modifiers_is_a_negative() -> None:
    (only,) = examples(note((RASH,), (), ()))
    assert only.target == tuple(piece.form for piece in only.pieces)


def test_without_gold() -> None:
    found = examples(note(mods=(), links=()), with_gold=False)
    assert [e.target for e in found] == [(), (), ()]
    rendered = modifiers.examples(note((PAIN,)), SEGMENTS, CLINICAL, with_gold=False)
    assert rendered.unplaced == ()


def test_labels_are_annotated_pairs_only() -> None:
    annotates = Annotates(frozenset(CLINICAL.entities), frozenset({"problem.negation", "drug.route"}))
    found = examples(note(annotates=annotates))
    assert [e.labels for e in found] == [("negation",), ("negation",), ("route",)]
    assert unplaced(note(annotates=annotates)) == [
        ("link", "p>s", "not asked for"),
        ("link", "a>m", "not asked for"),
        ("link", "a>t", "not asked for"),
    ]
    # In scope "sentence" a label of one entity's type is no gold for another's.
    mixed = note((Entity("x", "drug", PAIN.span), RASH), (NO,), (Link("x", "n"),), annotates)
    assert unplaced(mixed, "sentence") == [("link", "x>n", "not asked for")]


def test_an_entity_that_may_have_none_is_not_in_focus_but_marked() -> None:
    annotates = Annotates(frozenset(CLINICAL.entities), frozenset({"problem.severity"}))
    gold = note(
        (PAIN, Entity("x", "test", RASH.span)), (SEVERE, NO), (Link("p", "s"), Link("x", "n")), annotates
    )
    assert [e.id for e in examples(gold)] == ["d/0/p"]
    (only,) = examples(gold, "sentence")
    assert "".join(only.input) == "No severe{problem: pain} or{test: rash}."
    assert unplaced(gold) == unplaced(gold, "sentence") == [("link", "x>n", "not asked for")]


def test_nothing_annotated_nothing_asked() -> None:
    nothing = Annotates(frozenset(CLINICAL.entities), frozenset())
    assert examples(note(mods=(), links=(), annotates=nothing)) == ()
    assert examples(note((), (), ())) == ()
    assert len(unplaced(note(annotates=nothing))) == len(LINKS)


@pytest.mark.parametrize("scope", ["entity", "sentence"])
def test_what_cannot_be_expressed_is_counted_per_link(scope: str) -> None:
    parts = Entity("parts", "bodyloc", ((0, 2), (10, 14)))
    inside = Entity("inside", "severity", ((4, 9),))
    alone = Entity("alone", "course", SEVERE.span)
    wide = Entity("wide", "problem", ((10, 37),))
    gold = note(
        (PAIN, RASH, wide),
        (parts, inside, alone, SINCE, NO),
        (Link("p", "parts"), Link("r", "parts"), Link("p", "inside"), Link("p", "t"), Link("wide", "n")),
    )
    assert sorted(unplaced(gold, scope)) == sorted(
        [
            ("entity", "wide", "no sentence holds the entity"),
            ("link", "wide>n", "no sentence holds the entity"),
            ("link", "p>parts", "discontinuous"),
            ("link", "r>parts", "discontinuous"),
            ("link", "p>inside", "inside a piece"),
            ("link", "p>t", "link across sentences"),
            ("modifier", "alone", "linked to no entity"),
        ]
    )


def test_a_link_given_twice_counts_once() -> None:
    gold = note((ASPIRIN,), (NO,), (Link("a", "n"), Link("a", "n")))
    assert unplaced(gold) == [("link", "a>n", "link across sentences")]


def test_unknown_scope() -> None:
    with pytest.raises(ValueError, match="unknown scope 'note'; known: entity, sentence"):
        examples(note(), "note")


@pytest.mark.parametrize(
    ("text", "entities", "expected"),
    [
        ("a bc d", [("drug", ((2, 4),))], "a{drug: bc} d"),
        ("a bc d", [("drug", ((0, 1), (5, 6)))], "{drug:a} bc{drug: d}"),  # each fragment
        ("a bc d", [("drug", ((3, 4),))], "a{drug: bc} d"),  # inside a piece: out to its ends
        ("a bc d", [("drug", ((0, 2),))], "{drug:a} bc d"),  # ends with the space of the next piece
        ("a bc d", [("drug", ((1, 4),))], "a{drug: bc} d"),  # begins with a space
        ("a bc d", [("drug", ((0, 4),)), ("test", ((2, 4),))], "{drug:a{test: bc}} d"),
        (
            "a bc d",
            [("drug", ((0, 4),)), ("test", ((2, 6),))],
            "{drug:a{test: bc} d}",
        ),  # crossing
        ("a bc d", [("drug", ((2, 4),)), ("test", ((2, 4),))], "a{drug:{test: bc}} d"),
        ("a bc d", [("drug", ((0, 1),)), ("test", ((0, 4),))], "{test:{drug:a} bc} d"),
        ("a bc d", [("drug", ((0, 1),)), ("test", ((2, 4),))], "{drug:a}{test: bc} d"),
        ("a1", [("drug", ((0, 1),)), ("test", ((1, 2),))], "{drug:a}{test:1}"),
        ("ab", [("drug", ((0, 1),)), ("test", ((1, 2),))], "{drug:{test:ab}}"),  # two inside one piece
        ("<b &amp;", [("drug", ((0, 1),)), ("test", ((3, 8),))], "{drug:&lt;}b{test: &amp;amp;}"),
        ("", [], ""),
    ],
)
def test_marked(text: str, entities: list[tuple[str, tuple[tuple[int, int], ...]]], expected: str) -> None:
    found = [Entity(str(i), label, span) for i, (label, span) in enumerate(entities)]
    parts = modifiers.marked(pieces(text, 0, len(text)), found)
    assert "".join(part.form for part in parts) == expected
    assert tuple(part for part in parts if not part.is_mark) == pieces(text, 0, len(text))
    assert [part.start for part in parts] == sorted(part.start for part in parts)
    assert not any(part.is_solid for part in parts if part.is_mark)


def test_a_modifier_beside_inside_and_around_a_mark_comes_back() -> None:
    text = "Left knee pain today."
    knee = Entity("e", "problem", ((0, 14),))
    spans = {"bodyloc": (0, 9), "severity": (10, 14), "course": (0, 14), "temporal": (0, 20)}
    mods = tuple(Entity(label, label, (span,)) for label, span in spans.items())
    gold = Note(
        "d",
        text,
        (knee,),
        mods,
        tuple(Link("e", label) for label in spans),
        Annotates(frozenset({"problem"}), frozenset(f"problem.{label}" for label in spans)),
    )
    rendered = modifiers.examples(gold, ((0, 21),), CLINICAL, with_gold=True)
    (example,) = rendered.examples
    assert rendered.unplaced == ()
    assert "".join(example.target) == (
        "{problem:<temporal><course><bodyloc>Left knee</bodyloc><severity> pain</severity></course>} today"
        "</temporal>."
    )
    placed, problems = place(example.pieces, example.target)
    assert problems == ()
    assert {m.label: (m.start, m.end) for m in placed} == spans
    parsed = parse(example.pieces, "".join(example.target), example.labels)
    assert parsed.complete
    assert set(parsed.mentions) == set(placed)
    # Free text that lost the mark and the full stop is read by its words.
    damaged = parse(example.pieces, "<bodyloc>Left knee</bodyloc> pain today", example.labels)
    assert not damaged.complete
    assert [(m.label, m.start, m.end) for m in damaged.mentions] == [("bodyloc", 0, 9)]


@st.composite
def notes(draw: st.DrawFn) -> Note:
    def spans(letter: str, labels: tuple[str, ...]) -> tuple[Entity, ...]:
        found = []
        for i in range(draw(st.integers(0, 5))):
            start = draw(st.integers(0, len(TEXT) - 1))
            end = draw(st.integers(start + 1, min(len(TEXT), start + 12)))
            found.append(Entity(f"{letter}{i}", draw(st.sampled_from(labels)), ((start, end),)))
        return tuple(found)

    entities = (*spans("E", CLINICAL.entities), PAIN, ASPIRIN)
    mods = (*spans("M", CLINICAL.modifiers), NO, SEVERE, MG, SINCE)
    pairs = st.builds(Link, st.sampled_from([e.id for e in entities]), st.sampled_from([m.id for m in mods]))
    return note(entities, mods, tuple(dict.fromkeys(draw(st.lists(pairs, max_size=12)))))


@settings(max_examples=300)
@given(notes(), st.sampled_from(["entity", "sentence"]))
def test_what_is_placed_comes_back_and_the_rest_is_reported(gold: Note, scope: str) -> None:
    rendered = modifiers.examples(gold, SEGMENTS, CLINICAL, prompt_set="short", scope=scope, with_gold=True)
    results = [(example, place(example.pieces, example.target)[0]) for example in rendered.examples]
    back = assemble_note(gold, gold.entities, results)
    by_id = {m.id: m for m in gold.modifiers}
    lost = [u.id for u in rendered.unplaced if u.kind == "link"]
    assert len(set(lost)) == len(lost)
    kept = [link for link in gold.links if f"{link.entity}>{link.modifier}" not in lost]
    typed = {(by_id[link.modifier].type, by_id[link.modifier].span) for link in kept}
    assert {(m.type, m.span) for m in back.modifiers} == typed
    assert len(back.modifiers) == len(typed)
    if scope == "entity":
        found = {m.id: (m.type, m.span) for m in back.modifiers}
        expected = {(k.entity, by_id[k.modifier].type, by_id[k.modifier].span) for k in kept}
        assert {(k.entity, *found[k.modifier]) for k in back.links} == expected
    else:
        assert back.links == ()
    unlinked = {m.id for m in gold.modifiers} - {link.modifier for link in gold.links}
    assert {u.id for u in rendered.unplaced if u.kind == "modifier"} == unlinked
    assert all(isinstance(u, Unplaced) and u.note_id == "d" for u in rendered.unplaced)
