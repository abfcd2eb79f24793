import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora.evaluation.matching import (
    match_lenient,
    match_lenient_links,
    match_strict,
    maximum_matching,
    overlap_edges,
    overlaps,
)

# a span is drawn as a set of characters in 0..11 and written as its runs
SPANS = st.sets(st.integers(0, 11), min_size=1, max_size=6).map(lambda cs: runs(cs))
SPAN_LISTS = st.lists(SPANS, max_size=6)


def runs(characters):
    """{0, 1, 4} -> ((0, 2), (4, 5))."""
    starts = sorted(c for c in characters if c - 1 not in characters)
    ends = sorted(c + 1 for c in characters if c + 1 not in characters)
    return tuple(zip(starts, ends, strict=True))


def characters(span):
    return {c for start, end in span for c in range(start, end)}


def most_pairs(edges, used=frozenset()):
    """Brute force: every way to give each gold item one of its predictions or none."""
    if not edges:
        return 0
    best = most_pairs(edges[1:], used)
    for p in edges[0]:
        if p not in used:
            best = max(best, 1 + most_pairs(edges[1:], used | {p}))
    return best


def assert_one_to_one(matches):
    assert len({g for g, _ in matches}) == len(matches)
    assert len({p for _, p in matches}) == len(matches)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (((0, 5),), ((4, 9),), True),
        (((0, 5),), ((5, 9),), False),  # touching is not sharing: [0, 5) ends before 5
        (((0, 9),), ((3, 4),), True),  # nested
        (((0, 2), (8, 9)), ((3, 7),), False),  # lies in the gap
        (((0, 2), (8, 9)), ((3, 4), (8, 12)), True),  # interleaved, share character 8
        (((0, 2), (5, 7)), ((2, 5), (7, 9)), False),  # crossing without a shared character
        (((3, 3),), ((0, 9),), False),  # empty
    ],
)
def test_overlap_is_a_shared_character(a, b, expected):
    assert overlaps(a, b) is expected
    assert overlaps(b, a) is expected
    assert overlap_edges([a], [b]) == (((0,) if expected else ()),)


@given(SPANS, SPANS)
def test_overlap_agrees_with_sets_of_characters(a, b):
    assert overlaps(a, b) == bool(characters(a) & characters(b))


@given(SPAN_LISTS, SPAN_LISTS)
def test_the_sweep_finds_the_edges_that_all_pairs_find(gold, predicted):
    expected = tuple(tuple(p for p, b in enumerate(predicted) if overlaps(a, b)) for a in gold)
    assert overlap_edges(gold, predicted) == expected


def test_strict_wants_every_fragment():
    whole, parts, first = ((0, 9),), ((0, 4), (6, 9)), ((0, 4),)
    assert match_strict([parts], [whole, first, parts]) == ((0, 2),)
    assert match_strict([whole], [parts]) == ()


def test_strict_pairs_repeated_items_one_to_one():
    assert match_strict(["a", "a", "b"], ["a", "b", "b"]) == ((0, 0), (2, 1))


def test_one_long_prediction_matches_one_gold_item_only():
    # gold [0,3) [4,7) [8,11), predicted [0,11)
    assert len(match_lenient([((0, 3),), ((4, 7),), ((8, 11),)], [((0, 11),)])) == 1


def test_greedy_would_lose_a_match():
    # gold 0 overlaps both, gold 1 only prediction 0; first come, first served gives gold 1 nothing
    gold, predicted = [((0, 9),), ((0, 2),)], [((1, 3),), ((6, 8),)]
    assert match_lenient(gold, predicted) == ((0, 1), (1, 0))


def test_nothing_and_one():
    assert match_lenient([], []) == match_strict([], []) == ()
    assert match_lenient([((0, 1),)], []) == match_lenient([], [((0, 1),)]) == ()
    assert match_lenient([((0, 1),)], [((0, 1),)]) == ((0, 0),)


@settings(max_examples=200)
@given(SPAN_LISTS, SPAN_LISTS)
def test_lenient_matching_is_maximum_and_one_to_one(gold, predicted):
    matches = match_lenient(gold, predicted)
    assert_one_to_one(matches)
    assert all(overlaps(gold[g], predicted[p]) for g, p in matches)
    assert len(matches) == most_pairs(overlap_edges(gold, predicted))


@settings(max_examples=200)
@given(st.lists(st.sets(st.integers(0, 6)).map(lambda s: tuple(sorted(s))), max_size=7))
def test_matching_of_any_graph_is_maximum(edges):
    matches = maximum_matching(tuple(edges), 7)
    assert_one_to_one(matches)
    assert all(p in edges[g] for g, p in matches)
    assert len(matches) == most_pairs(edges)


@given(SPAN_LISTS, SPAN_LISTS)
def test_lenient_matches_at_least_as_many_as_strict(gold, predicted):
    strict = match_strict(gold, predicted)
    assert_one_to_one(strict)
    assert all(gold[g] == predicted[p] for g, p in strict)
    assert len(match_lenient(gold, predicted)) >= len(strict)


@given(st.lists(st.tuples(SPANS, SPANS), max_size=5), st.lists(st.tuples(SPANS, SPANS), max_size=5))
def test_lenient_links_need_both_ends(gold, predicted):
    edges = [
        tuple(p for p, b in enumerate(predicted) if overlaps(a[0], b[0]) and overlaps(a[1], b[1]))
        for a in gold
    ]
    matches = match_lenient_links(gold, predicted)
    assert_one_to_one(matches)
    assert all(p in edges[g] for g, p in matches)
    assert len(matches) == most_pairs(edges)


def test_a_long_augmenting_path_needs_no_deep_recursion():
    # gold i may take prediction i or i+1, the last only prediction 0: first come, first served
    # leaves the last gold item out, and every other one must move up by one to let it in
    num = 3000
    edges = (*((i, i + 1) for i in range(num)), (0,))
    assert len(maximum_matching(edges, num + 1)) == num + 1


@pytest.mark.parametrize(
    "shift",
    [
        pytest.param(3, id="each overlaps one"),
        pytest.param(5, id="each overlaps its neighbour as well"),
        pytest.param(0, id="equal"),
    ],
)
def test_two_thousand_entities_take_milliseconds(shift):
    # all pairs would be 4,000,000 comparisons, some seconds; the sweep takes about 10 ms
    gold = [((10 * i, 10 * i + 6),) for i in range(2000)]
    predicted = [((10 * i + shift, 10 * i + shift + 8),) for i in range(2000)]
    started = time.perf_counter()
    assert len(match_lenient(gold, predicted)) == 2000
    assert time.perf_counter() - started < 0.5
