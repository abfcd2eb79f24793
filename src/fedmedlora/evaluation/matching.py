"""One-to-one maximum matching between gold and predicted items of one note and one type.

Strict: the same span, fragment for fragment. Lenient: at least one shared character, where the gap
inside a discontinuous span belongs to nobody. An item is used once, so one long prediction over
three gold items is one match and two misses. A greedy choice may match fewer items than possible
and depend on their order; a maximum matching does neither.

Source: Hopcroft and Karp, "An n^(5/2) algorithm for maximum matchings in bipartite graphs",
SIAM J. Comput. 2(4), 1973, https://doi.org/10.1137/0202019. Departure: it starts from a greedy
matching, and depth-first search keeps its own stack (a chain of overlaps may be thousands long).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

from fedmedlora.corpora.note import Span

Edges = tuple[tuple[int, ...], ...]  # per gold item: indices of the predictions that it may match
Matches = tuple[tuple[int, int], ...]  # (gold index, predicted index), each index at most once
LinkSpans = tuple[Span, Span]  # (span of the entity, span of the modifier)

_FREE = -1


def overlaps(a: Span, b: Span) -> bool:
    """Whether two spans share at least one character."""
    return any(max(s, t) < min(e, f) for s, e in a for t, f in b)


def match_strict(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> Matches:
    """Pair equal items. Repeated items pair one to one. O(items)."""
    waiting: defaultdict[Hashable, list[int]] = defaultdict(list)
    for index in reversed(range(len(predicted))):
        waiting[predicted[index]].append(index)
    return tuple((g, waiting[item].pop()) for g, item in enumerate(gold) if waiting.get(item))


def match_lenient(gold: Sequence[Span], predicted: Sequence[Span]) -> Matches:
    """As many pairs of overlapping spans as can be had at once."""
    return maximum_matching(overlap_edges(gold, predicted), len(predicted))


def match_lenient_links(gold: Sequence[LinkSpans], predicted: Sequence[LinkSpans]) -> Matches:
    """As many pairs of links as can be had at once, where the entities overlap and the modifiers overlap."""
    # Few entities share a modifier but many modifiers share an entity: sweep the modifiers.
    nearby = overlap_edges([m for _, m in gold], [m for _, m in predicted])
    edges = tuple(
        tuple(p for p in near if overlaps(entity, predicted[p][0]))
        for (entity, _), near in zip(gold, nearby, strict=True)
    )
    return maximum_matching(edges, len(predicted))


def overlap_edges(gold: Sequence[Span], predicted: Sequence[Span]) -> Edges:
    """Per gold span, the indices of the predicted spans that share a character with it, ascending.

    One sweep over the fragments of both sides by start: O(n log n + edges), not all pairs.
    """
    fragments = sorted(
        (start, end, side, index)
        for side, spans in enumerate((gold, predicted))
        for index, span in enumerate(spans)
        for start, end in span
        if start < end  # an empty fragment has no character to share
    )
    found: list[set[int]] = [set() for _ in gold]
    alive: list[list[tuple[int, int]]] = [[], []]  # per side: (end, index) of fragments not yet over
    for start, end, side, index in fragments:
        alive[1 - side] = still = [other for other in alive[1 - side] if other[0] > start]
        for _, other_index in still:
            g, p = (index, other_index) if side == 0 else (other_index, index)
            found[g].add(p)
        alive[side].append((end, index))
    return tuple(tuple(sorted(near)) for near in found)


def maximum_matching(edges: Edges, num_predicted: int) -> Matches:
    """A matching with the greatest number of pairs; O(edges * sqrt(items))."""
    of_gold = [_FREE] * len(edges)
    of_predicted = [_FREE] * num_predicted
    for g, near in enumerate(edges):
        for p in near:
            if of_predicted[p] == _FREE:
                of_gold[g], of_predicted[p] = p, g
                break
    while (depth := _layers(edges, of_gold, of_predicted)) is not None:
        tried = [0] * len(edges)  # per gold item: how many of its edges this round has looked at
        for g in range(len(edges)):
            if of_gold[g] == _FREE:
                _augment(g, edges, of_gold, of_predicted, depth, tried)
    return tuple((g, p) for g, p in enumerate(of_gold) if p != _FREE)


def _layers(edges: Edges, of_gold: list[int], of_predicted: list[int]) -> list[int] | None:
    """Breadth-first depth of each gold item from the free ones; None when no augmenting path is left."""
    depth = [0 if p == _FREE else _FREE for p in of_gold]
    layer = [g for g, p in enumerate(of_gold) if p == _FREE]
    reached = False
    while layer and not reached:
        following = []
        for g in layer:
            for p in edges[g]:
                other = of_predicted[p]
                if other == _FREE:
                    reached = True
                elif depth[other] == _FREE:
                    depth[other] = depth[g] + 1
                    following.append(other)
        layer = following
    return depth if reached else None


def _augment(
    root: int, edges: Edges, of_gold: list[int], of_predicted: list[int], depth: list[int], tried: list[int]
) -> None:
    """Match ``root`` along a path that goes one layer deeper with every step, if there is one."""
    path = [root]
    while path:
        g = path[-1]
        if tried[g] == len(edges[g]):
            path.pop()
            continue
        p = edges[g][tried[g]]
        tried[g] += 1
        other = of_predicted[p]
        if other == _FREE:
            for step in path:  # each takes the edge that it looked at last
                taken = edges[step][tried[step] - 1]
                of_gold[step], of_predicted[taken] = taken, step
            return
        if depth[other] == depth[g] + 1:
            path.append(other)
