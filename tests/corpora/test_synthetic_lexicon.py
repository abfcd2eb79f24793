"""The word lists: how many words, who uses which, and that train and test share only some."""

from __future__ import annotations

import pytest

from fedmedlora.corpora.note import surface
from fedmedlora.corpora.synthetic import HOSPITALS, hospital, synthesize
from fedmedlora.corpora.synthetic.lexicon import KINDS, Item, available, bucket, is_used, lexicon, surfaces


@pytest.mark.parametrize(
    ("entity_type", "fewest"), [("problem", 600), ("drug", 300), ("test", 150), ("treatment", 120)]
)
def test_there_are_many_words(entity_type: str, fewest: int) -> None:
    assert len(surfaces(entity_type)) >= fewest


def test_curated_problems_alone_are_several_hundred() -> None:
    curated = {i.surface for i in lexicon() if i.kind in ("disease", "symptom", "finding")}
    assert len(curated) >= 400


def test_no_word_is_listed_twice_in_a_kind_or_blank() -> None:
    keys = [(i.kind, i.specialty, i.surface) for i in lexicon()]
    assert len(set(keys)) == len(keys)
    assert all(i.surface == i.surface.strip() and i.surface for i in lexicon())
    drugs = [i.surface.lower() for i in lexicon() if i.kind in KINDS["drug"]]
    assert len(set(drugs)) == len(drugs)


def test_a_word_has_one_entity_type() -> None:
    types = list(KINDS)
    for i, one in enumerate(types):
        for other in types[i + 1 :]:
            assert not surfaces(one) & surfaces(other)


def test_ranges_and_strengths_are_whole() -> None:
    for item in lexicon():
        assert bool(item.ranges) == (item.kind in ("lab", "vital"))
        assert bool(item.strengths) == (item.kind in KINDS["drug"])
        assert all(r.low < r.high for r in item.ranges)


def test_buckets_are_the_same_on_every_machine() -> None:
    # printf split:aspirin | sha256sum, its first 8 hex digits as a number, modulo 100.
    assert bucket("aspirin", "split") == bucket("Aspirin", "split") == 14
    assert bucket("aspirin", "region") != bucket("aspirin", "split")


def test_half_of_the_words_are_in_both_parts_and_a_quarter_in_each() -> None:
    items = [i for i in lexicon() if i.kind not in ("vital", "of", "part")]
    quarters = [bucket(i.surface, "split") for i in items]
    assert 0.22 <= sum(q < 25 for q in quarters) / len(items) <= 0.28
    assert 0.22 <= sum(q >= 75 for q in quarters) / len(items) <= 0.28


@pytest.mark.parametrize("name", HOSPITALS)
@pytest.mark.parametrize("entity_type", list(KINDS))
def test_train_and_test_words_overlap_partly(name: str, entity_type: str) -> None:
    away = hospital(name).away
    words = [
        {
            i.surface
            for k in KINDS[entity_type]
            for items in available(name, away, held)[k].values()
            for i in items
        }
        for held in (False, True)
    ]
    share = len(words[0] & words[1]) / len(words[1])
    assert 0.5 < share < 0.9


@pytest.mark.parametrize("entity_type", ["problem", "drug"])
def test_surfaces_in_train_and_test_notes_overlap_partly(entity_type: str) -> None:
    seen = []
    for part in ("train", "test"):
        found = synthesize("lakeside", 300, 1, part)
        seen.append(
            {surface(n.text, e.span).lower() for n in found for e in n.entities if e.type == entity_type}
        )
    assert len(seen[0]) >= 150
    assert 0 < len(seen[0] & seen[1]) / len(seen[1]) < 0.9


def test_external_and_new_hospitals_have_words_of_their_own() -> None:
    drugs = [i for i in lexicon() if i.kind in KINDS["drug"]]
    home = {i.surface for i in drugs for n in HOSPITALS[:3] for h in (False, True) if is_used(i, n, False, h)}
    for name in HOSPITALS[3:]:
        theirs = {i.surface for i in drugs for h in (False, True) if is_used(i, name, True, h)}
        assert theirs - home
        assert home - theirs
        assert theirs & home


def test_closed_classes_are_never_split() -> None:
    assert is_used(Item("vital", "vital", "anything"), "lakeside", False, False)
    assert is_used(Item("vital", "vital", "anything"), "lakeside", False, True)
