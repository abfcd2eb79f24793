"""One set of notes as a federation: dealt, restricted, corrupted, drawn from."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora.corpora.draw import draw_notes
from fedmedlora.corpora.federate import WAYS, deal, skew
from fedmedlora.corpora.label_noise import corrupt
from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.corpora.restrict import restrict
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.corpora.synthetic import synthesize

ALL = Annotates(
    frozenset({"problem", "drug", "test"}),
    frozenset({"problem.negation", "problem.severity", "drug.negation", "drug.dosage"}),
)
TEXT = "No severe pain today. Takes aspirin 81 mg for fever."


def note(note_id="n", group="", text=TEXT) -> Note:
    entities = (
        Entity("T1", "problem", ((10, 14),)),  # pain
        Entity("T2", "drug", ((28, 35),)),  # aspirin
        Entity("T3", "problem", ((46, 51),)),  # fever
    )
    modifiers = (
        Entity("M1", "negation", ((0, 2),)),
        Entity("M2", "severity", ((3, 9),)),
        Entity("M3", "dosage", ((36, 41),)),
    )
    links = (Link("T1", "M1"), Link("T1", "M2"), Link("T2", "M3"))
    return Note(note_id, text, entities, modifiers, links, ALL, group)


def plain(note_id: str, size: int, kind: str = "", group: str = "") -> Note:
    text = note_id.ljust(size, "x")
    entities = (Entity("T1", kind, ((0, 1),)),) if kind else ()
    return Note(note_id, text, entities, (), (), ALL, group)


COHORTS = {
    "kiwi": tuple(plain(f"k{i}", 40, "problem" if i % 2 else "drug") for i in range(12)),
    "chia": tuple(plain(f"c{i}", 80, "test", group=f"g{i // 2}") for i in range(8)),
}


@pytest.mark.parametrize("how", [way for way in WAYS if way != "cohort"])
@pytest.mark.parametrize("seed", range(5))
def test_copies_of_a_text_in_two_cohorts_go_to_one_site(how, seed):
    """a1 and b1 are copies, b2 goes with b1, and b2 and a2 are copies: the four are one block."""
    cohorts = {
        "a": (plain("1", 9), plain("2", 9), plain("3", 9)),
        "b": (plain("1", 9, group="g"), plain("2", 9, group="g"), plain("4", 9)),
    }
    sites = deal(cohorts, 2, how=how, seed=seed)
    where = {note.id: site for site, notes in sites.items() for note in notes}
    assert len(where) == 6
    assert len({where[key] for key in ("a/1", "a/2", "b/1", "b/2")}) == 1


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("num_sites", [2, 3, 7])
def test_every_note_goes_to_one_site_and_groups_stay_together(how, num_sites):
    sites = deal(COHORTS, num_sites, how=how, seed=1)
    assert len(sites) == num_sites
    assert all(sites.values())
    dealt = [n.id for notes in sites.values() for n in notes]
    assert sorted(dealt) == sorted(f"{c}/{n.id}" for c, notes in COHORTS.items() for n in notes)
    homes: dict[str, set[str]] = {}
    for site, notes in sites.items():
        for n in notes:
            if n.group:
                homes.setdefault(n.group, set()).add(site)
    assert len(homes) == 4
    assert all(len(home) == 1 for home in homes.values())
    turned = {name: tuple(reversed(COHORTS[name])) for name in reversed(COHORTS)}
    assert deal(turned, num_sites, how=how, seed=1) == sites
    assert deal(COHORTS, 7, how=how, seed=2) != deal(COHORTS, 7, how=how, seed=1)


def size(notes) -> int:
    return sum(len(n.text) for n in notes)


def test_by_document_sites_are_about_equal():
    sizes = [size(notes) for notes in deal(COHORTS, 4, how="document", seed=0).values()]
    # 12 * 40 + 8 * 80 = 1120 characters; a block has at most 160.
    assert all(abs(s - 280) <= 160 for s in sizes)


def test_by_cohort_sites_are_given_by_characters():
    # 480 and 640 characters: of 7 sites 3 and 4; of 3 sites 1.29 and 1.71, so 1 and 2.
    assert list(deal(COHORTS, 7, how="cohort", seed=0)) == [
        "chia-1",
        "chia-2",
        "chia-3",
        "chia-4",
        "kiwi-1",
        "kiwi-2",
        "kiwi-3",
    ]
    assert list(deal(COHORTS, 3, how="cohort", seed=0)) == ["chia-1", "chia-2", "kiwi-1"]
    for site, notes in deal(COHORTS, 5, how="cohort", seed=0).items():
        assert {n.id.split("/")[0] for n in notes} == {site.split("-")[0]}
    with pytest.raises(ValueError, match="a site for each of the 2 cohorts, and num_sites is 1"):
        deal(COHORTS, 1, how="cohort", seed=0)
    tiny = {"big": COHORTS["chia"], "small": (plain("s", 1),)}
    assert len(deal(tiny, 2, how="cohort", seed=0)["small-1"]) == 1


def test_a_small_concentration_is_uneven_and_a_large_one_even():
    many = {"c": tuple(plain(f"{i}", 10, ("problem", "drug", "test")[i % 3]) for i in range(600))}

    def unevenness(how: str, concentration: float) -> float:
        sites = deal(many, 4, how=how, seed=3, concentration=concentration)
        if how == "size_skew":
            return max(map(len, sites.values())) / 150
        return max(float(s["distance"]) for s in skew(sites).values())

    assert unevenness("label_skew", 0.1) > 0.3 > 0.1 > unevenness("label_skew", 1000.0)
    assert unevenness("size_skew", 0.1) > 2 > 1.2 > unevenness("size_skew", 1000.0)


def test_what_cannot_be_dealt_is_refused():
    for arguments, message in (
        ({"num_sites": 0, "how": "document"}, "num_sites is 0"),
        ({"num_sites": 17, "how": "document"}, "16 blocks of notes"),
        ({"num_sites": 2, "how": "fair"}, "unknown way 'fair'; known: document, cohort"),
        ({"num_sites": 2, "how": "document", "concentration": 0.0}, "concentration 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            deal(COHORTS, seed=0, **arguments)


def test_skew_by_hand():
    found = skew({"a": (plain("1", 5, "drug"),), "b": (plain("2", 5, "problem"), plain("3", 5)), "c": ()})
    assert found["a"]["entities"] == {"drug": 1}
    # a is (1, 0), all together (1/2, 1/2), the middle (3/4, 1/4):
    # (1 * log2(4/3) + 1/2 * log2(2/3) + 1/2 * log2(2)) / 2 = (0.41504 - 0.29248 + 0.5) / 2 = 0.31128
    assert found["a"]["distance"] == pytest.approx(math.sqrt(0.311278), abs=1e-5)
    assert found["c"] == {"num_notes": 0, "entities": {}, "distance": 0.0}
    assert found["b"]["num_notes"] == 2


def test_types_that_go_are_dropped_and_no_longer_said_to_be_annotated():
    (found,) = restrict([note()], CLINICAL, entities=["drug"])
    assert [e.id for e in found.entities] == ["T2"]
    assert found.annotates == Annotates(frozenset({"drug"}), frozenset({"drug.negation", "drug.dosage"}))
    assert [m.id for m in found.modifiers] == ["M3"]
    assert found.links == (Link("T2", "M3"),)


def test_some_modifiers_none_and_modifiers_alone():
    (some,) = restrict([note()], CLINICAL, modifiers=["negation"])
    assert some.annotates.pairs == {"problem.negation", "drug.negation"}
    assert [m.id for m in some.modifiers] == ["M1"]
    assert some.entities == note().entities
    (none,) = restrict([note()], CLINICAL, modifiers=[])
    assert (none.modifiers, none.links, none.annotates.pairs) == ((), (), frozenset())
    assert none.annotates.entities == ALL.entities
    (alone,) = restrict([note()], CLINICAL, entities=[])
    assert alone.entities == note().entities  # given, to ask about
    assert alone.annotates == Annotates(frozenset(), ALL.pairs)
    assert restrict([note()], CLINICAL) == (note(),)


def test_a_site_of_modifiers_alone_is_asked_about_them_and_nothing_else():
    from fedmedlora.tasks.training_set import training_set

    examples = training_set(restrict([note()], CLINICAL, entities=[]), CLINICAL).examples
    assert examples["ner"] == ()
    assert len(examples["modifiers"]) == 3
    examples = training_set(restrict([note()], CLINICAL, modifiers=[]), CLINICAL).examples
    assert len(examples["ner"]) == 2
    assert examples["modifiers"] == ()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown entity type 'drugs'; did you mean drug"):
        restrict([note()], CLINICAL, entities=["drugs"])
    with pytest.raises(ValueError, match="unknown modifier 'xyz'; the schema has severity"):
        restrict([note()], CLINICAL, modifiers=["xyz"])


def lawful(found: Note) -> None:
    """What every corpus keeps, corrupted or not."""
    ids = [m.id for m in (*found.entities, *found.modifiers)]
    assert len(ids) == len(set(ids))
    for mention in (*found.entities, *found.modifiers):
        for start, end in mention.span:
            assert 0 <= start < end <= len(found.text)
    by_id = {m.id: m for m in (*found.entities, *found.modifiers)}
    for link in found.links:
        pair = f"{by_id[link.entity].type}.{by_id[link.modifier].type}"
        assert pair in found.annotates.pairs
    assert {e.type for e in found.entities} <= found.annotates.entities


NOTES = tuple(synthesize("lakeside", 6, 1, "train"))


@given(share=st.floats(0, 1), seed=st.integers(0, 50))
def test_corrupted_notes_keep_the_laws(share, seed):
    found, counts = corrupt(NOTES, share, CLINICAL, seed=seed)
    assert [n.text for n in found] == [n.text for n in NOTES]
    for one in found:
        lawful(one)
    assert corrupt(NOTES, share, CLINICAL, seed=seed) == (found, counts)


def harmed(found) -> set[tuple[str, str]]:
    """Entities that are not as they were, or have a spurious one beside them."""
    gone = set()
    for before, after in zip(NOTES, found, strict=True):
        kept = {(e.id, e.type, e.span) for e in after.entities}
        gone |= {(before.id, e.id) for e in before.entities if (e.id, e.type, e.span) not in kept}
        gone |= {(before.id, e.id.removesuffix("+spurious")) for e in after.entities if "+spurious" in e.id}
    return gone


def test_the_share_is_met_nothing_at_0_all_at_1_and_more_includes_less():
    total = sum(len(n.entities) for n in NOTES)
    assert total > 100
    assert corrupt(NOTES, 0.0, CLINICAL, seed=1) == (NOTES, {})
    by_share = {share: corrupt(NOTES, share, CLINICAL, seed=1) for share in (0.2, 0.4, 0.6, 1.0)}
    sizes = {share: len(harmed(found)) for share, (found, _) in by_share.items()}
    assert sizes[1.0] == total
    for share in (0.2, 0.4, 0.6):
        assert abs(sizes[share] / total - share) < 0.12  # three standard deviations of 100 draws
    assert harmed(by_share[0.2][0]) < harmed(by_share[0.4][0]) < harmed(by_share[0.6][0])
    counts = Counter(by_share[1.0][1])
    kinds = ("another type", "left out", "boundary", "spurious")
    assert all(counts[f"entity: {kind}"] > 0.1 * total for kind in kinds)
    assert counts["modifier: another type"] + counts["modifier: left out"] == sum(
        len(n.modifiers) for n in NOTES
    )


def test_another_seed_harms_others_and_odd_shares_are_refused():
    assert harmed(corrupt(NOTES, 0.3, CLINICAL, seed=1)[0]) != harmed(
        corrupt(NOTES, 0.3, CLINICAL, seed=2)[0]
    )
    assert corrupt([], 0.5, CLINICAL, seed=1) == ((), {})
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="it is from 0 to 1"):
            corrupt(NOTES, share, CLINICAL, seed=1)


def test_fewer_notes_are_among_more_and_copies_count_once():
    notes = [plain(f"n{i}", 5 + i) for i in range(20)]
    drawn = [{n.id for n in draw_notes(notes, num, seed=4, name="a")} for num in (0, 1, 5, 10, 20)]
    assert [len(ids) for ids in drawn] == [0, 1, 5, 10, 20]
    assert all(few <= many for few, many in pairwise(drawn))
    assert {n.id for n in draw_notes(notes[::-1], 5, seed=4, name="a")} == drawn[2]
    assert {n.id for n in draw_notes(notes, 5, seed=5, name="a")} != drawn[2]
    copies = [note("a"), note("b"), plain("c", 9)]
    assert len(draw_notes(copies, 2, seed=0, name="x")) == 2
    with pytest.raises(ValueError, match="3 notes are asked for, and there are 2 different ones"):
        draw_notes(copies, 3, seed=0, name="x")
