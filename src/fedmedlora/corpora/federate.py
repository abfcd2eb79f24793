"""One set of annotated notes dealt to simulated sites: evenly, by source, or skewed in labels or in sizes.

``label_skew``: of every class, the sites get shares drawn from a symmetric Dirichlet distribution (Hsu, Qi,
Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
https://arxiv.org/abs/1909.06335). ``size_skew``: so are the sites' sizes (Li, Diao, Chen, He, "Federated
Learning on Non-IID Data Silos", https://arxiv.org/abs/2102.02079, section IV). Departs in two things: what
is dealt are blocks of notes that must stay together, a block's class being its commonest entity type; and
a site that would get nothing is given a block of the site that has the most.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fedmedlora.corpora.note import Note
from fedmedlora.corpora.split import blocks_of

WAYS = ("document", "cohort", "label_skew", "size_skew")
Block = tuple[Note, ...]


def deal(
    cohorts: Mapping[str, Sequence[Note]],
    num_sites: int,
    *,
    how: str,
    seed: int,
    concentration: float = 0.5,
) -> dict[str, tuple[Note, ...]]:
    """Site -> its notes; every note goes to one site, and notes that must stay together to the same.

    Copies of one text in two cohorts must, too; of "cohort" they cannot.

    ``how``: "document" (at random, about as many characters each), "cohort" (every site's notes out of one
    cohort, sites shared out by characters), "label_skew", "size_skew". Sites are called ``site-1``, of
    "cohort" ``COHORT-1``. Ids and groups get their cohort in front, for they are unique in a cohort only.
    ``concentration``: of the Dirichlet distributions; 100 is nearly even, 0.1 gives most of a class to one
    site. The order of cohorts and notes plays no role.

    Raises ``ValueError`` for an unknown way, for no site, and for fewer blocks than sites.
    """
    if how not in WAYS:
        raise ValueError(f"deal: unknown way {how[:80]!r}; known: {', '.join(WAYS)}")
    if num_sites < 1 or not concentration > 0:
        raise ValueError(f"num_sites is {num_sites} and concentration {concentration}; both are above 0")
    blocks = {name: _blocks(name, cohorts[name]) for name in sorted(cohorts)}
    if how == "cohort":
        return _by_cohort(blocks, num_sites, seed)
    pooled = _joined([block for of_cohort in blocks.values() for block in of_cohort])
    _refuse_few(len(pooled), num_sites, "all cohorts together")
    rng = _rng(seed, how, str(num_sites))
    rng.shuffle(pooled)
    if how == "document":
        places = _least_loaded(pooled, np.full(num_sites, 1.0))
    elif how == "size_skew":
        places = _least_loaded(pooled, rng.dirichlet(np.full(num_sites, concentration)))
    else:
        places = _label_skew(pooled, num_sites, concentration, rng)
    return _sites(pooled, _none_empty(pooled, places, num_sites), num_sites, "site")


def skew(sites: Mapping[str, Sequence[Note]]) -> dict[str, dict[str, object]]:
    """Site -> ``num_notes``, ``entities`` (by type), ``distance`` (Jensen-Shannon, of its types from all).

    The distance, from 0 to 1, is the root of the divergence in base 2 (Lin, IEEE Trans. Inf. Theory 37 (1991)
    145-151); 0 where nobody has an entity.
    """
    counts = {name: Counter(e.type for note in notes for e in note.entities) for name, notes in sites.items()}
    pooled = sum(counts.values(), Counter())
    return {
        name: {
            "num_notes": len(notes),
            "entities": dict(sorted(counts[name].items())),
            "distance": _distance(counts[name], pooled),
        }
        for name, notes in sites.items()
    }


def _blocks(cohort: str, notes: Sequence[Note]) -> list[Block]:
    own = [
        replace(note, id=f"{cohort}/{note.id}", group=f"{cohort}/{note.group}" if note.group else "")
        for note in notes
    ]
    return [tuple(block) for block in blocks_of(own)[0]]


def _joined(blocks: Sequence[Block]) -> list[Block]:
    """``blocks``, but that those with a text in common, copies out of two cohorts, are one."""
    by_text: dict[str, int] = {}
    found: dict[int, Block] = {}
    for number, block in enumerate(blocks):
        texts = [note.text_hash() for note in block if note.text.strip()]
        tied = sorted({by_text[text] for text in texts if text in by_text})
        place = tied[0] if tied else number
        for other in tied[1:]:
            found[place] += found.pop(other)
            by_text = {text: place if at == other else at for text, at in by_text.items()}
        found[place] = found.get(place, ()) + block
        by_text |= dict.fromkeys(texts, place)
    return list(found.values())


def _by_cohort(blocks: Mapping[str, list[Block]], num_sites: int, seed: int) -> dict[str, tuple[Note, ...]]:
    if num_sites < len(blocks):
        raise ValueError(
            f'deal: "cohort" needs a site for each of the {len(blocks)} cohorts, and num_sites is {num_sites}'
        )
    sizes = {name: sum(map(_size, of_cohort)) for name, of_cohort in blocks.items()}
    shares = {name: num_sites * size / max(1, sum(sizes.values())) for name, size in sizes.items()}
    given = {name: max(1, math.floor(share)) for name, share in shares.items()}
    while sum(given.values()) != num_sites:  # the largest remainder gets one, or the smallest gives one
        behind = {name: shares[name] - given[name] for name in given}
        if sum(given.values()) < num_sites:
            given[max(behind, key=lambda name: behind[name])] += 1
        else:
            given[min((n for n in given if given[n] > 1), key=lambda name: behind[name])] -= 1
    found: dict[str, tuple[Note, ...]] = {}
    for name, of_cohort in blocks.items():
        _refuse_few(len(of_cohort), given[name], name)
        rng = _rng(seed, "cohort", name)
        rng.shuffle(of_cohort)
        places = _none_empty(of_cohort, _least_loaded(of_cohort, np.full(given[name], 1.0)), given[name])
        found |= _sites(of_cohort, places, given[name], name)
    return found


def _least_loaded(blocks: Sequence[Block], shares: np.ndarray) -> list[int]:
    """Each block to the site that is furthest below its share of the characters."""
    wanted = shares / shares.sum() * sum(map(_size, blocks))
    places = []
    for block in blocks:
        site = int(np.argmax(wanted))
        wanted[site] -= _size(block)
        places.append(site)
    return places


def _label_skew(
    blocks: Sequence[Block], num_sites: int, concentration: float, rng: np.random.Generator
) -> list[int]:
    classes = [_class(block) for block in blocks]
    shares = {label: rng.dirichlet(np.full(num_sites, concentration)) for label in sorted(set(classes))}
    return [int(rng.choice(num_sites, p=shares[label])) for label in classes]


def _class(block: Block) -> str:
    """Its commonest entity type, of equal ones the first by name; "" without entities."""
    counts = Counter(e.type for note in block for e in note.entities)
    return min(counts, key=lambda name: (-counts[name], name), default="")


def _none_empty(blocks: Sequence[Block], places: list[int], num_sites: int) -> list[int]:
    """``places``, but that a site with nothing gets the smallest block of the site with most blocks."""
    while missing := set(range(num_sites)) - set(places):
        counts = Counter(places)
        richest = max(counts, key=lambda site: (counts[site], -site))
        own = [i for i, place in enumerate(places) if place == richest]
        places[min(own, key=lambda i: (_size(blocks[i]), i))] = min(missing)
    return places


def _sites(
    blocks: Sequence[Block], places: Sequence[int], num_sites: int, name: str
) -> dict[str, tuple[Note, ...]]:
    width = len(str(num_sites))
    found: dict[str, list[Note]] = {f"{name}-{i + 1:0{width}d}": [] for i in range(num_sites)}
    names = list(found)
    for block, place in zip(blocks, places, strict=True):
        found[names[place]] += block
    return {site: tuple(sorted(notes, key=lambda note: note.id)) for site, notes in found.items()}


def _size(block: Block) -> int:
    return sum(len(note.text) for note in block)


def _refuse_few(num_blocks: int, num_sites: int, whose: str) -> None:
    if num_blocks < num_sites:
        raise ValueError(
            f"{whose}: {num_blocks} blocks of notes that must stay together do not suffice for {num_sites} "
            "sites; take fewer sites or more notes"
        )


def _distance(own: Counter[str], pooled: Counter[str]) -> float:
    if not own.total() or not pooled.total():
        return 0.0
    total = 0.0
    for name in pooled:
        p, q = own[name] / own.total(), pooled[name] / pooled.total()
        middle = (p + q) / 2
        total += sum(part * math.log2(part / middle) / 2 for part in (p, q) if part)
    return math.sqrt(max(0.0, total))


def _rng(seed: int, *what: str) -> np.random.Generator:
    digest = hashlib.sha256("/".join((str(seed), *what)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
