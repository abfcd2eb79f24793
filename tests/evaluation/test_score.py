import time

import pytest

from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.evaluation.counts import Counts
from fedmedlora.evaluation.score import Agreement, NoteScore, score_note, score_notes

ALL = Annotates(
    entities=frozenset({"problem", "drug"}),
    pairs=frozenset({"problem.negation", "drug.negation", "drug.dosage"}),
)
PROBLEM_NEGATION_ONLY = Annotates(frozenset({"problem", "drug"}), frozenset({"problem.negation"}))


def note(entities=(), modifiers=(), links=(), *, annotates=ALL, name="n", text=""):
    """entities, modifiers: (id, type, start, end[, start, end ...]); links: (entity, modifier)."""
    return Note(
        id=name,
        text=text,
        entities=tuple(mention(*e) for e in entities),
        modifiers=tuple(mention(*m) for m in modifiers),
        links=tuple(Link(*link) for link in links),
        annotates=annotates,
    )


def mention(name, kind, *offsets):
    return Entity(name, kind, tuple(zip(offsets[::2], offsets[1::2], strict=True)))


def micro(agreement):
    """((strict tp, fp, fn), (lenient tp, fp, fn))."""
    return tuple((c.tp, c.fp, c.fn) for c in (agreement.strict.micro(), agreement.lenient.micro()))


def test_a_note_worked_by_hand():
    # "No chest pain or fever. Aspirin 81 mg daily."
    gold = note(
        [("T1", "problem", 3, 13), ("T2", "problem", 17, 22), ("T3", "drug", 24, 31)],
        [("M1", "negation", 0, 2), ("M2", "dosage", 32, 37)],
        [("T1", "M1"), ("T2", "M1"), ("T3", "M2")],
    )
    found = note(
        [("a", "problem", 9, 13), ("b", "problem", 17, 22), ("c", "problem", 24, 31)],
        [("x", "negation", 0, 2), ("y", "dosage", 32, 34)],
        [("a", "x"), ("b", "x")],
    )
    score = score_note(gold, found)
    # entities: fever exact; "pain" overlaps "chest pain"; "Aspirin" has the wrong type
    assert score.entities.strict.per_type == {"problem": Counts(1, 2, 1), "drug": Counts(0, 0, 1)}
    assert score.entities.lenient.per_type == {"problem": Counts(2, 1, 0), "drug": Counts(0, 0, 1)}
    # modifiers: "No" exact; "81" overlaps "81 mg" (unlinked, and some dosage is annotated)
    assert score.modifiers.strict.per_type == {"negation": Counts(1, 0, 0), "dosage": Counts(0, 1, 1)}
    assert score.modifiers.lenient.per_type == {"negation": Counts(1, 0, 0), "dosage": Counts(1, 0, 0)}
    # links: fever-No exact; pain-No overlaps chest pain-No; Aspirin-81 mg was not predicted
    assert score.links.strict.per_type == {
        "problem.negation": Counts(1, 1, 1),
        "drug.negation": Counts(0, 0, 0),
        "drug.dosage": Counts(0, 0, 1),
    }
    assert score.links.lenient.per_type["problem.negation"] == Counts(2, 0, 0)
    assert score.links.lenient.per_type["drug.dosage"] == Counts(0, 0, 1)


def test_nothing_against_nothing_has_no_f1():
    score = score_note(note(), note())
    assert score.entities.strict.per_type == {"problem": Counts(), "drug": Counts()}
    assert score.entities.strict.micro().f1 is None


def test_empty_prediction_and_empty_gold_are_zero_not_undefined():
    some = note([("T1", "drug", 0, 5)])
    assert micro(score_note(some, note()).entities) == ((0, 0, 1), (0, 0, 1))
    assert micro(score_note(note(), some).entities) == ((0, 1, 0), (0, 1, 0))
    assert score_note(some, note()).entities.strict.micro().f1 == 0.0


def test_a_missing_note_is_a_note_without_predictions():
    gold = note([("T1", "drug", 0, 5)])
    assert score_notes([gold], {}) == score_notes([gold], {"n": note()})
    assert micro(score_notes([gold], {})[0].entities) == ((0, 0, 1), (0, 0, 1))


def test_discontinuous_entities_need_every_fragment_to_be_strict():
    # "pain in arm and leg": pain ... leg
    gold = note([("T1", "problem", 0, 4, 16, 19)])
    assert micro(score_note(gold, gold).entities) == ((1, 0, 0), (1, 0, 0))
    assert micro(score_note(gold, note([("a", "problem", 0, 19)])).entities) == ((0, 1, 1), (1, 0, 0))
    assert micro(score_note(gold, note([("a", "problem", 16, 19)])).entities) == ((0, 1, 1), (1, 0, 0))
    # a prediction inside the gap shares no character
    assert micro(score_note(gold, note([("a", "problem", 8, 11)])).entities) == ((0, 1, 1), (0, 1, 1))


def test_nested_and_crossing_entities_of_one_type():
    gold = note([("T1", "problem", 0, 20), ("T2", "problem", 5, 10), ("T3", "problem", 15, 30)])
    assert micro(score_note(gold, gold).entities) == ((3, 0, 0), (3, 0, 0))
    # both predictions overlap T1; the second may go to T3, so both count
    found = note([("a", "problem", 0, 4), ("b", "problem", 16, 20)])
    assert micro(score_note(gold, found).entities) == ((0, 2, 3), (2, 0, 1))


def test_saying_the_same_twice_counts_once():
    gold = note([("T1", "drug", 0, 5)], [("M1", "dosage", 6, 9)], [("T1", "M1")])
    twice = note(
        [("a", "drug", 0, 5), ("b", "drug", 0, 5)],
        [("x", "dosage", 6, 9), ("y", "dosage", 6, 9)],
        [("a", "x"), ("b", "y"), ("a", "y"), ("a", "x")],
    )
    for one, other in ((gold, twice), (twice, gold)):
        score = score_note(one, other)
        for agreement in (score.entities, score.modifiers, score.links):
            assert micro(agreement) == ((1, 0, 0), (1, 0, 0))


def test_same_span_with_two_types_are_two_entities():
    gold = note([("T1", "drug", 0, 5)])
    found = note([("a", "drug", 0, 5), ("b", "problem", 0, 5)])
    assert micro(score_note(gold, found).entities) == ((1, 1, 0), (1, 1, 0))


def test_a_near_duplicate_is_a_false_positive():
    # [0,5) takes the gold item; [0,4) overlaps it, but it is taken
    gold = note([("T1", "drug", 0, 5)])
    found = note([("a", "drug", 0, 5), ("b", "drug", 0, 4)])
    assert micro(score_note(gold, found).entities) == ((1, 1, 0), (1, 1, 0))


def test_entities_outside_annotates_are_ignored_on_both_sides():
    drugs = Annotates(frozenset({"drug"}), frozenset())
    gold = note([("T1", "drug", 0, 5), ("T2", "problem", 10, 15)], annotates=drugs)
    found = note([("a", "drug", 0, 5), ("b", "problem", 20, 25)])
    assert score_note(gold, found).entities.strict.per_type == {"drug": Counts(1, 0, 0)}


def test_only_the_gold_side_decides_what_is_annotated():
    gold = note([("T1", "drug", 0, 5), ("T2", "problem", 10, 15)])
    nothing_asked = note([("a", "drug", 0, 5)], annotates=Annotates(frozenset(), frozenset()))
    assert micro(score_note(gold, nothing_asked).entities)[0] == (1, 0, 1)


def test_nothing_annotated_scores_nothing():
    nothing = Annotates(frozenset(), frozenset())
    full = note([("T1", "drug", 0, 5)], [("M1", "dosage", 6, 9)], [("T1", "M1")], annotates=nothing)
    assert score_note(full, full) == NoteScore("n", Agreement(), Agreement(), Agreement())


def test_links_of_a_pair_that_is_not_annotated_are_ignored():
    entities = [("T1", "problem", 0, 5), ("T2", "drug", 10, 15)]
    modifiers = [("M1", "negation", 20, 22), ("M2", "negation", 30, 32)]
    both = [("T1", "M1"), ("T2", "M2")]
    gold = note(entities, modifiers, both, annotates=PROBLEM_NEGATION_ONLY)
    score = score_note(gold, note(entities, modifiers, both))
    assert score.links.strict.per_type == {"problem.negation": Counts(1, 0, 0)}
    # M2 is linked to a drug only: out on both sides
    assert score.modifiers.strict.per_type == {"negation": Counts(1, 0, 0)}


def test_a_predicted_modifier_counts_by_the_pairs_it_is_linked_to():
    entities = [("T1", "problem", 0, 5), ("T2", "drug", 10, 15)]
    gold = note(entities, annotates=PROBLEM_NEGATION_ONLY)
    modifier = [("x", "negation", 20, 22)]

    def false_positives(*links, kind="negation"):
        found = note(entities, [("x", kind, 20, 22)], links)
        return score_note(gold, found).modifiers.strict.micro().fp

    assert false_positives(("T2", "x")) == 0  # drug.negation is not annotated
    assert false_positives(("T1", "x")) == 1
    assert false_positives(("T1", "x"), ("T2", "x")) == 1  # one annotated pair is enough
    assert false_positives() == 1  # unlinked (sentence scope), and some negation is annotated
    assert false_positives(kind="dosage") == 0  # no annotated pair ends in dosage
    # the same span given twice, once for the drug and once for the problem, is one modifier
    found = note(entities, [*modifier, ("y", "negation", 20, 22)], [("T2", "x"), ("T1", "y")])
    assert score_note(gold, found).modifiers.strict.micro() == Counts(0, 1, 0)


def test_a_link_needs_the_right_types_at_both_ends():
    gold = note([("T1", "problem", 0, 5)], [("M1", "negation", 6, 9)], [("T1", "M1")])
    wrong_entity = note([("T1", "drug", 0, 5)], [("M1", "negation", 6, 9)], [("T1", "M1")])
    score = score_note(gold, wrong_entity)
    assert micro(score.links) == ((0, 1, 1), (0, 1, 1))
    assert micro(score.modifiers) == ((1, 0, 0), (1, 0, 0))  # as a typed span it is right


def test_a_link_is_strict_only_if_both_spans_are():
    gold = note([("T1", "drug", 0, 5)], [("M1", "dosage", 6, 9)], [("T1", "M1")])
    for entity, modifier in (((0, 4), (6, 9)), ((0, 5), (6, 8))):
        found = note([("a", "drug", *entity)], [("x", "dosage", *modifier)], [("a", "x")])
        assert micro(score_note(gold, found).links) == ((0, 1, 1), (1, 0, 0))
    apart = note([("a", "drug", 0, 5)], [("x", "dosage", 9, 12)], [("a", "x")])
    assert micro(score_note(gold, apart).links) == ((0, 1, 1), (0, 1, 1))


def test_scores_come_in_the_order_of_note_ids():
    assert [s.note_id for s in score_notes([note(name="b"), note(name="a")], {})] == ["a", "b"]
    assert score_notes([], {}) == ()


def test_predicted_notes_that_gold_does_not_have_are_named():
    found = {name: note(name=name) for name in ("n", "zz", "aa")}
    with pytest.raises(ValueError, match=r"gold does not have: 'aa', 'zz'; gold holds 1 notes"):
        score_notes([note()], found)


def test_many_unknown_notes_are_abridged():
    found = {f"p{i}": note(name=f"p{i}") for i in range(8)}
    with pytest.raises(ValueError, match=r"'p0', 'p1', 'p2', 'p3', 'p4' and 3 more; gold holds 0"):
        score_notes([], found)


def test_repeated_gold_notes_are_refused():
    with pytest.raises(ValueError, match=r"several notes with the id: 'n'"):
        score_notes([note(), note()], {})


def test_repeated_ids_within_a_note_are_refused():
    with pytest.raises(ValueError, match=r"note 'n' uses an id several times: 'T1'"):
        score_note(note([("T1", "drug", 0, 5), ("T1", "drug", 6, 9)]), None)


@pytest.mark.parametrize(("link", "kind"), [(("T9", "M1"), "entity 'T9'"), (("T1", "M9"), "modifier 'M9'")])
def test_a_link_to_nowhere_is_refused(link, kind):
    broken = note([("T1", "drug", 0, 5)], [("M1", "dosage", 6, 9)], [link])
    with pytest.raises(ValueError, match=rf"note 'n': a link names the {kind}, which the note does not have"):
        score_note(note(), broken)


def test_texts_must_agree_where_both_exist_and_are_never_shown():
    gold = note(text="SECRET one")
    assert score_note(gold, note(text="")) == score_note(gold, note(text="SECRET one"))
    with pytest.raises(ValueError, match=r"note 'n'.* \(10 and 12 characters\)") as caught:
        score_note(gold, note(text="SECRET three"))
    assert "SECRET" not in str(caught.value)


def test_inputs_are_not_changed():
    gold = note([("T1", "drug", 0, 5)], [("M1", "dosage", 6, 9)], [("T1", "M1")])
    predicted = {"n": note()}
    score_notes([gold], predicted)
    assert gold == note([("T1", "drug", 0, 5)], [("M1", "dosage", 6, 9)], [("T1", "M1")])
    assert predicted == {"n": note()}


def test_a_note_with_two_thousand_entities_is_fast():
    num = 2000
    gold, found = (
        note(
            [(f"T{i}", "drug", 20 * i, 20 * i + size) for i in range(num)],
            [(f"M{i}", "dosage", 20 * i + 10, 20 * i + 10 + size) for i in range(num)],
            [(f"T{i}", f"M{i}") for i in range(num)],
        )
        for size in (6, 5)
    )
    started = time.perf_counter()
    score = score_note(gold, found)
    assert time.perf_counter() - started < 1.0  # about 40 ms; all pairs three times would be 10 s
    for agreement in (score.entities, score.modifiers, score.links):
        assert micro(agreement) == ((0, num, num), (num, 0, 0))
