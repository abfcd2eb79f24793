"""Laws of scoring, on random notes."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.evaluation.counts import Counts, TypedCounts
from fedmedlora.evaluation.score import Agreement, score_note, score_notes
from fedmedlora.evaluation.summary import evaluate

ENTITIES = ("problem", "drug")
MODIFIERS = ("negation", "dosage")
PAIRS = ("problem.negation", "drug.negation", "drug.dosage")
KINDS = ("entities", "modifiers", "links")
LENGTH = 20


@st.composite
def spans(draw):
    cuts = sorted(draw(st.sets(st.integers(0, LENGTH), min_size=2, max_size=4)))
    return tuple(zip(cuts[::2], cuts[1::2], strict=False))  # ((c0, c1),) or ((c0, c1), (c2, c3))


@st.composite
def notes(draw, name="n", annotates=None):
    if annotates is None:
        annotates = draw(scopes())
    mentions = {
        kind: tuple(
            Entity(f"{kind}{i}", draw(st.sampled_from(kinds)), draw(spans()))
            for i in range(draw(st.integers(0, 5)))
        )
        for kind, kinds in (("T", ENTITIES), ("M", MODIFIERS))
    }
    links = ()
    if mentions["T"] and mentions["M"]:
        ends = st.tuples(*(st.sampled_from([m.id for m in mentions[kind]]) for kind in "TM"))
        links = tuple(Link(*pair) for pair in draw(st.lists(ends, max_size=5)))
    return Note(name, "", mentions["T"], mentions["M"], links, annotates)


@st.composite
def scopes(draw):
    return Annotates(
        frozenset(draw(st.sets(st.sampled_from(ENTITIES)))), frozenset(draw(st.sets(st.sampled_from(PAIRS))))
    )


@st.composite
def corpora(draw):
    """(gold notes, predicted notes); some predicted notes are missing."""
    num_notes = draw(st.integers(0, 4))
    gold = [draw(notes(f"n{i}")) for i in range(num_notes)]
    found = [draw(notes(f"n{i}")) for i in range(num_notes) if draw(st.booleans())]
    return gold, found


def by_id(found):
    return {note.id: note for note in found}


def both(score):
    """Every TypedCounts of a note's score."""
    return [counts for kind in KINDS for counts in _strict_and_lenient(score, kind)]


def _strict_and_lenient(score, kind):
    agreement = getattr(score, kind)
    return agreement.strict, agreement.lenient


def swapped(counts):
    return TypedCounts({t: Counts(c.tp, c.fn, c.fp) for t, c in counts.per_type.items()})


@given(corpora(), st.randoms(use_true_random=False))
def test_order_changes_nothing(corpus, random):
    def shuffled(items):
        return tuple(random.sample(items, len(items)))

    def shuffled_note(note):
        return dataclasses.replace(
            note,
            entities=shuffled(note.entities),
            modifiers=shuffled(note.modifiers),
            links=shuffled(note.links),
        )

    gold, found = corpus
    other_gold = shuffled([shuffled_note(note) for note in gold])
    other_found = shuffled([shuffled_note(note) for note in found])
    assert evaluate(gold, found) == evaluate(other_gold, other_found)


@given(scopes().flatmap(lambda s: st.tuples(notes(annotates=s), notes(annotates=s))))
def test_swapping_gold_and_predicted_swaps_fp_and_fn(pair):
    gold, found = pair
    for one, other in zip(both(score_note(gold, found)), both(score_note(found, gold)), strict=True):
        assert one == swapped(other)


@given(notes(), notes())
def test_lenient_finds_at_least_what_strict_finds(gold, found):
    score = score_note(gold, found)
    for kind in KINDS:
        strict, lenient = _strict_and_lenient(score, kind)
        assert strict.per_type.keys() == lenient.per_type.keys()
        for name, counts in strict.per_type.items():
            more = lenient.per_type[name]
            assert more.tp >= counts.tp
            # the number of gold items and of predictions is the same under both
            assert more.tp + more.fn == counts.tp + counts.fn
            assert more.tp + more.fp == counts.tp + counts.fp


@given(notes())
def test_a_note_agrees_with_itself(note):
    for counts in both(score_note(note, note)):
        assert (counts.micro().fp, counts.micro().fn) == (0, 0)


@given(corpora())
def test_counts_of_two_halves_add_up_to_the_counts_of_the_whole(corpus):
    gold, found = corpus
    predicted = by_id(found)

    def total(part):
        names = {note.id for note in part}
        scores = score_notes(part, {i: n for i, n in predicted.items() if i in names})
        return [sum((getattr(score, kind) for score in scores), Agreement()) for kind in KINDS]

    halves = zip(total(gold[:2]), total(gold[2:]), strict=True)
    assert total(gold) == [first + second for first, second in halves]


@given(
    scopes().flatmap(
        lambda s: st.tuples(*(st.tuples(notes(annotates=s), notes(annotates=s)) for _ in range(2)))
    )
)
def test_two_notes_written_as_one_give_the_sum_of_their_counts(pairs):
    (gold_a, found_a), (gold_b, found_b) = pairs
    scores = both(score_note(gold_a, found_a)), both(score_note(gold_b, found_b))
    apart = [a + b for a, b in zip(*scores, strict=True)]
    assert both(score_note(joined(gold_a, gold_b), joined(found_a, found_b))) == apart


def joined(a, b):
    """``a`` and, LENGTH characters further on, ``b``."""

    def moved(mentions):
        return tuple(
            Entity(f"b{m.id}", m.type, tuple((s + LENGTH, e + LENGTH) for s, e in m.span)) for m in mentions
        )

    return dataclasses.replace(
        a,
        entities=a.entities + moved(b.entities),
        modifiers=a.modifiers + moved(b.modifiers),
        links=a.links + tuple(Link(f"b{link.entity}", f"b{link.modifier}") for link in b.links),
    )


@given(notes(), notes())
def test_what_the_gold_does_not_annotate_changes_nothing(gold, found):
    scope = gold.annotates

    def kept(note):
        """The note without what is out of scope, by the rule as the docstring words it."""
        types = {m.id: m.type for m in (*note.entities, *note.modifiers)}
        links = tuple(
            link for link in note.links if f"{types[link.entity]}.{types[link.modifier]}" in scope.pairs
        )
        linked, linked_within = {k.modifier for k in note.links}, {k.modifier for k in links}
        return dataclasses.replace(
            note,
            links=links,
            # an entity out of scope stays where a link in scope needs it
            entities=tuple(
                e
                for e in note.entities
                if e.type in scope.entities or e.id in {link.entity for link in links}
            ),
            modifiers=tuple(
                m
                for m in note.modifiers
                if m.id in linked_within
                or (m.id not in linked and any(p.endswith(f".{m.type}") for p in scope.pairs))
            ),
        )

    assert score_note(gold, found) == score_note(kept(gold), kept(found))
    counts = score_note(gold, found)
    assert counts.entities.strict.per_type.keys() == scope.entities
    assert counts.links.strict.per_type.keys() == scope.pairs
    num_modifiers = len({(m.type, m.span) for m in kept(gold).modifiers})
    total = counts.modifiers.strict.micro()
    assert total.tp + total.fn == num_modifiers


@given(notes(), notes())
def test_saying_everything_twice_changes_nothing(gold, found):
    def twice(note):
        again = joined(note, note)
        back = {m.id: m.span for m in (*note.entities, *note.modifiers)}
        return dataclasses.replace(
            again,
            entities=tuple(dataclasses.replace(m, span=back[m.id.removeprefix("b")]) for m in again.entities),
            modifiers=tuple(
                dataclasses.replace(m, span=back[m.id.removeprefix("b")]) for m in again.modifiers
            ),
        )

    expected = score_note(gold, found)
    assert score_note(gold, twice(found)) == expected
    assert score_note(twice(gold), found) == expected
