"""nervaluate 1.2.1 as an oracle, where both define the same thing.

Its "strict" scheme is ours where neither side overlaps itself. Its "ent_type" scheme (overlap and
type) is our lenient one where, besides, nothing overlaps two items of the other side: it matches
greedily, ours is maximum. It knows neither fragments nor links.
"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nervaluate.evaluator import Evaluator

from fedmedlora.corpora.note import Annotates, Entity, Note
from fedmedlora.evaluation.summary import evaluate

TYPES = ("problem", "drug", "test")
SCOPE = Annotates(frozenset(TYPES), frozenset())
CELL = 8
KINDS = st.sampled_from(TYPES)


@st.composite
def within_a_cell(draw):
    start = draw(st.integers(0, CELL - 1))
    return draw(KINDS), start, draw(st.integers(start + 1, CELL))


@st.composite
def in_cells(draw):
    """(gold, predicted) of one note: at most one of each per cell, so no item overlaps two."""
    cells = draw(st.lists(st.tuples(*[st.none() | within_a_cell()] * 2), max_size=6))
    return tuple(
        [(c[side][0], CELL * i + c[side][1], CELL * i + c[side][2]) for i, c in enumerate(cells) if c[side]]
        for side in (0, 1)
    )


@st.composite
def flat(draw):
    """Spans that do not overlap each other, in random order: neighbours may touch."""
    cuts = sorted(draw(st.sets(st.integers(0, 24), max_size=12)))
    pieces = [(draw(KINDS), start, end) for start, end in itertools.pairwise(cuts)]
    return draw(st.permutations([piece for piece in pieces if draw(st.booleans())]))


def as_note(index, spans):
    entities = tuple(Entity(f"T{i}", kind, ((start, end),)) for i, (kind, start, end) in enumerate(spans))
    return Note(f"n{index}", "", entities, (), (), SCOPE)


def nervaluate(corpus):
    """Its results; its ends are inclusive."""
    sides = [
        [[{"label": k, "start": s, "end": e - 1} for k, s, e in note[side]] for note in corpus]
        for side in (0, 1)
    ]
    return Evaluator(*sides, tags=list(TYPES), loader="dict").evaluate()


def oracle(corpus, scheme):
    """(micro, per type): (tp, fp, fn) as nervaluate counts."""
    found = nervaluate(corpus)

    def counts(result):
        return result.correct, result.actual - result.correct, result.possible - result.correct

    per_type = {kind: counts(result[scheme]) for kind, result in found["entities"].items()}
    return counts(found["overall"][scheme]), {kind: per_type.get(kind, (0, 0, 0)) for kind in TYPES}


def as_evaluated(corpus, criterion):
    gold, found = ([as_note(i, note[side]) for i, note in enumerate(corpus)] for side in (0, 1))
    return evaluate(gold, found)["entities"][criterion]


def ours(corpus, criterion):
    numbers = as_evaluated(corpus, criterion)

    def counts(six):
        return six["tp"], six["fp"], six["fn"]

    return counts(numbers), {kind: counts(numbers["per_type"][kind]) for kind in TYPES}


CORPORA = st.lists(in_cells(), min_size=1, max_size=3)


@given(CORPORA)
def test_lenient_agrees_with_ent_type(corpus):
    assert ours(corpus, "lenient") == oracle(corpus, "ent_type")


@given(CORPORA)
def test_strict_agrees_with_strict(corpus):
    assert ours(corpus, "strict") == oracle(corpus, "strict")


@given(st.lists(st.tuples(flat(), flat()), min_size=1, max_size=3))
def test_strict_agrees_on_any_flat_spans_and_lenient_never_finds_less(corpus):
    assert ours(corpus, "strict") == oracle(corpus, "strict")
    (tp, _, _), per_type = ours(corpus, "lenient")
    (greedy_tp, _, _), greedy_per_type = oracle(corpus, "ent_type")
    assert tp >= greedy_tp
    assert all(per_type[kind][0] >= greedy_per_type[kind][0] for kind in TYPES)


@given(CORPORA)
def test_f1_agrees_where_it_is_not_zero_over_zero(corpus):
    numbers = as_evaluated(corpus, "strict")
    result = nervaluate(corpus)["overall"]["strict"]
    for ours_value, theirs in (
        (numbers["precision"], result.precision),
        (numbers["recall"], result.recall),
        (numbers["f1"], result.f1),
    ):
        # nervaluate writes 0 where ours is undefined
        assert (0.0 if ours_value is None else ours_value) == pytest.approx(theirs)


def test_where_greedy_loses_a_match():
    # predicted [5,19) lies closer to gold [8,20) than to gold [2,6), takes it, and leaves nothing
    # for predicted [19,20); matched the other way round, both count
    corpus = [([("drug", 2, 6), ("drug", 8, 20)], [("drug", 5, 19), ("drug", 19, 20)])]
    assert oracle(corpus, "ent_type")[0] == (1, 1, 1)
    assert ours(corpus, "lenient")[0] == (2, 0, 0)


def test_the_oracle_sees_what_we_score():
    # one exact, one shorter, one of another type, one invented, one missed
    gold = [("drug", 0, 5), ("drug", 8, 14), ("test", 16, 20), ("test", 32, 35)]
    found = [("drug", 0, 5), ("drug", 8, 12), ("drug", 16, 20), ("problem", 24, 28)]
    assert oracle([(gold, found)], "strict")[0] == ours([(gold, found)], "strict")[0] == (1, 3, 3)
    assert oracle([(gold, found)], "ent_type")[0] == ours([(gold, found)], "lenient")[0] == (2, 2, 2)
