"""The five synthetic hospitals: exact offsets, full coverage, real differences, same result every time."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest

from fedmedlora.corpora.note import Note, surface
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.corpora.synthetic import HOSPITALS, PARTS, describe, hospital, synthesize

SITES = HOSPITALS[:3]


@cache
def notes(name: str, part: str = "train") -> tuple[Note, ...]:
    return synthesize(name, 250, seed=3, part=part)


def linked_pairs(note: Note) -> list[str]:
    entities = {e.id: e.type for e in note.entities}
    modifiers = {m.id: m.type for m in note.modifiers}
    return [f"{entities[link.entity]}.{modifiers[link.modifier]}" for link in note.links]


def digest(found: tuple[Note, ...]) -> str:
    rows = [(n.id, n.text, n.group, n.meta, [(e.type, e.span) for e in n.entities]) for n in found]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def test_three_sites_one_external_and_one_new() -> None:
    kinds = [hospital(name).kind for name in HOSPITALS]
    assert kinds == ["site", "site", "site", "external", "new-site"]
    assert len(set(HOSPITALS)) == 5


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", HOSPITALS)
def test_every_span_lies_in_its_note_at_word_boundaries(name: str, part: str) -> None:
    for note in notes(name, part):
        for span in (e.span for e in (*note.entities, *note.modifiers)):
            ((start, end),) = span
            assert 0 <= start < end <= len(note.text)
            text = surface(note.text, span)
            assert text == text.strip()
            for at in (start, end):  # neither inside a run of letters nor inside a run of digits
                around = note.text[max(at - 1, 0) : at + 1]
                assert at in (0, len(note.text)) or not (around.isalpha() or around.isdigit()), around


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", HOSPITALS)
def test_types_pairs_and_links_keep_the_schema_and_the_annotates(name: str, part: str) -> None:
    annotates = hospital(name).annotates
    assert annotates.pairs <= set(CLINICAL.pair_names())
    for note in notes(name, part):
        assert note.annotates == annotates
        assert {e.type for e in note.entities} <= annotates.entities
        assert set(linked_pairs(note)) <= annotates.pairs
        assert {link.modifier for link in note.links} == {m.id for m in note.modifiers}  # none is loose
        ids = [e.id for e in (*note.entities, *note.modifiers)]
        assert len(set(ids)) == len(ids)
        assert len(set(note.links)) == len(note.links)


@pytest.mark.parametrize("name", HOSPITALS)
def test_entities_never_overlap_and_only_body_parts_nest(name: str) -> None:
    num_nested = 0
    for note in notes(name):
        spans = sorted((e.start, e.end) for e in note.entities)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
        for modifier in note.modifiers:
            inside = [s for s in spans if s[0] < modifier.end and modifier.start < s[1]]
            if inside:
                num_nested += 1
                assert modifier.type == "bodyloc"
                assert inside[0][0] == modifier.start
                assert modifier.end < inside[0][1]
    assert (num_nested > 0) == (name in ("northgate", "stonebridge"))


@pytest.mark.parametrize("name", HOSPITALS)
def test_a_hospital_shows_every_pair_that_it_annotates_in_every_part(name: str) -> None:
    for part in PARTS:
        found = Counter(pair for note in notes(name, part) for pair in linked_pairs(note))
        assert set(found) == hospital(name).annotates.pairs
        assert {e.type for n in notes(name, part) for e in n.entities} == hospital(name).annotates.entities


def test_the_sites_together_train_all_22_pairs_and_none_annotates_them_all() -> None:
    found = {pair for name in SITES for note in notes(name) for pair in linked_pairs(note)}
    assert found == set(CLINICAL.pair_names())
    assert len(found) == 22
    assert all(hospital(name).annotates.pairs < found for name in SITES)


def test_what_is_not_annotated_still_stands_in_the_text() -> None:
    text = " ".join(note.text.lower() for note in notes("northgate"))
    assert "treatment" not in hospital("northgate").annotates.entities
    assert sum(word in text for word in ("radiotherapy", "mastectomy", "polypectomy", "ileostomy")) >= 2


@pytest.mark.parametrize("name", HOSPITALS)
def test_a_few_notes_hold_no_entity(name: str) -> None:
    num_empty = sum(not note.entities for note in notes(name))
    assert 1 <= num_empty <= 0.12 * len(notes(name))


@pytest.mark.parametrize("name", HOSPITALS)
def test_one_modifier_may_be_shared_and_one_entity_may_have_several(name: str) -> None:
    shared = [Counter(link.modifier for link in note.links) for note in notes(name)]
    several = [Counter(link.entity for link in note.links) for note in notes(name)]
    assert max(max(c.values(), default=0) for c in shared) >= 3
    assert max(max(c.values(), default=0) for c in several) >= 4


@pytest.mark.parametrize("name", HOSPITALS)
def test_notes_are_a_handful_to_two_dozen_lines_or_sentences(name: str) -> None:
    ends = re.compile(r"[.!?] (?=[A-Z0-9])|\n+")
    sizes = sorted(len([s for s in ends.split(note.text) if s.strip()]) for note in notes(name))
    assert sizes[0] >= 5
    assert sizes[-1] <= 32  # headings included
    assert 10 <= sizes[len(sizes) // 2] <= 22


def test_ids_are_unique_and_patients_stay_in_one_part() -> None:
    everything = [note for name in HOSPITALS for part in PARTS for note in notes(name, part)]
    assert len({note.id for note in everything}) == len(everything)
    assert len({note.text_hash() for note in everything}) == len(everything)
    owners: dict[str, set[str]] = {}
    for note in everything:
        owners.setdefault(note.group, set()).add(note.id.rsplit("-", 1)[0])
    assert all(len(parts) == 1 for parts in owners.values())
    per_patient = Counter(Counter(note.group for note in notes("lakeside")).values())
    assert set(per_patient) == {1, 2}
    assert notes("lakeside")[0].id == "lakeside-train-0001"


def test_cohorts_differ_in_types_case_units_and_abbreviations() -> None:
    texts = {name: "\n".join(note.text for note in notes(name)) for name in HOSPITALS}
    upper = {name: sum(map(str.isupper, t)) / sum(map(str.isalpha, t)) for name, t in texts.items()}
    assert upper["riverbend"] == 0.0
    assert upper["northgate"] > 3 * upper["lakeside"] > 0
    for name in ("lakeside", "riverbend", "stonebridge"):
        assert "mg/dl" in texts[name].lower()
    for name in ("northgate", "saltmarsh"):
        assert "mg/dl" not in texts[name].lower()
        assert "µmol/L".lower() in texts[name].lower()
    shares = {}
    for name in HOSPITALS:
        types = Counter(e.type for note in notes(name) for e in note.entities)
        shares[name] = {t: types[t] / types.total() for t in CLINICAL.entities}
    assert shares["riverbend"]["test"] > 1.3 * shares["lakeside"]["test"]
    assert shares["northgate"]["treatment"] == 0
    assert all(len({note.meta["note_type"] for note in notes(name)}) >= 3 for name in HOSPITALS)
    negations = {
        name: Counter(
            surface(n.text, m.span).lower() for n in notes(name) for m in n.modifiers if m.type == "negation"
        )
        for name in HOSPITALS
    }
    assert negations["riverbend"]["neg for"] > 0 == negations["lakeside"]["neg for"]
    assert negations["northgate"]["(-)"] > 0 == negations["saltmarsh"]["(-)"]
    assert negations["lakeside"]["denied"] > 0 == negations["northgate"]["denied"]


def test_notes_hold_non_ascii_characters() -> None:
    assert any(not note.text.isascii() for note in notes("northgate"))


def test_more_notes_never_change_the_earlier_ones() -> None:
    assert synthesize("saltmarsh", 12, 5)[:4] == synthesize("saltmarsh", 4, 5)
    assert synthesize("saltmarsh", 0, 5) == ()
    assert len(synthesize("saltmarsh", 1, 5)) == 1


def test_seeds_and_parts_give_other_notes() -> None:
    first = {n.text for n in synthesize("lakeside", 20, 1)}
    assert first.isdisjoint(n.text for n in synthesize("lakeside", 20, 2))
    assert first.isdisjoint(n.text for n in synthesize("lakeside", 20, 1, "test"))
    validation = {n.text for n in synthesize("lakeside", 20, 1, "validation")}
    assert validation.isdisjoint(n.text for n in synthesize("lakeside", 20, 1, "test"))


def test_the_global_random_state_is_neither_read_nor_moved() -> None:
    random.seed(1)
    state = random.getstate()
    first = synthesize("riverbend", 5, 1)
    assert random.getstate() == state
    random.seed(2)
    assert synthesize("riverbend", 5, 1) == first


def test_another_process_writes_the_same_notes() -> None:
    # str.__hash__ differs between processes, so anything built on hash() or on set order would show here.
    code = (
        "import json, hashlib; from fedmedlora.corpora.synthetic import HOSPITALS, synthesize\n"
        "found = tuple(n for name in HOSPITALS for n in synthesize(name, 6, 11, 'test'))\n"
        "rows = [(n.id, n.text, n.group, n.meta, [(e.type, e.span) for e in n.entities]) for n in found]\n"
        "print(hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest())"
    )
    here = digest(tuple(n for name in HOSPITALS for n in synthesize(name, 6, 11, "test")))
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == here


def test_bad_arguments_teach() -> None:
    with pytest.raises(ValueError, match=r"'lakesde'.*'lakeside'"):
        synthesize("lakesde", 1, 1)
    with pytest.raises(ValueError, match=r"'dev'.*'validation'"):
        synthesize("lakeside", 1, 1, "dev")
    with pytest.raises(ValueError, match="-1"):
        synthesize("lakeside", -1, 1)


def test_describe_is_ready_for_json_and_in_order() -> None:
    described = json.loads(json.dumps(describe()))
    assert [d["name"] for d in described] == list(HOSPITALS)
    assert set(described[0]) == {"name", "kind", "description", "annotates"}
    assert described[1]["annotates"]["entities"] == ["problem", "drug", "test"]
    assert "problem.negation" in described[1]["annotates"]["pairs"]
