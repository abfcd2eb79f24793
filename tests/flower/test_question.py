"""A question that came over a network: every field of it is checked, and anything else is refused.

``HOSTILE`` names every field that could hold a free text, with one that must not get through; a new field of
``Terms``, ``Errand`` or a letter that is not listed here fails the first test.
"""

from __future__ import annotations

import json
import typing
from dataclasses import fields, is_dataclass, replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.basis import prompts_here
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.corpora.schema_record import schema_record
from fedmedlora.exchange.exchange import Exchange
from fedmedlora.exchange.local import Local
from fedmedlora.flower import question
from fedmedlora.flower.allows import Allows, NotNow, Refused
from fedmedlora.flower.messages import ERRAND_FIELDS, LAST_ROUND, Letter, errand_fields
from fedmedlora.flower.question import read_question, refuse_question
from fedmedlora.flower.site_work import _refuse_other_model
from fedmedlora.model.load import load_base_model
from fedmedlora.sites import Errand
from fedmedlora.terms import Terms

PATH, COMMAND, MODULE = "../../../etc/passwd", "; rm -rf /", "os:system"
TERMS = Terms(
    seed=1,
    base_model="a" * 64,
    tokenizer="b" * 64,
    frame=("", ""),
    prompts="c" * 64,
    schema_record=schema_record(CLINICAL),
)
ERRAND = Errand("fed_medlora", run="0af")
ALLOWS = Allows(max_rounds=9, max_rank=32, max_steps_per_round=50, max_passes_per_round=3, min_examples=5)
NOW = datetime(2026, 3, 5, 12)

# Field -> words of its refusal; "here": compared with the files of the site, see below.
HOSTILE = {
    "terms.base_model": "here",
    "terms.tokenizer": "here",
    "terms.frame": "here",
    "terms.prompts": "here",
    "terms.schema_record": "terms: schema_record",
    "terms.adapter.targets": "targets",
    "terms.tasks.names": "unknown task",
    "terms.tasks.schema": "not the name of the schema",
    "errand.method": "method",
    "errand.run": "run is not the id of a run",
    "errand.exchange.upload": "unknown codec",
    "errand.exchange.download": "unknown codec",
}
NEVER_TRAVEL = {"errand.shots", "errand.other_reader"}


def open_fields(cls: type, place: str) -> set[str]:
    """Fields of ``cls`` and its tables that could hold free text; numbers and ``Literal`` cannot."""
    found = set()
    hints = typing.get_type_hints(cls)
    for one in fields(cls):
        hint, name = hints[one.name], f"{place}.{one.name}"
        if is_dataclass(hint):
            found |= open_fields(hint, name)
        elif not closed(hint):
            found.add(name)
    return found


def closed(hint: Any) -> bool:
    args = [arg for arg in typing.get_args(hint) if arg is not Ellipsis]
    if typing.get_origin(hint) is typing.Literal:
        return True
    if args and typing.get_origin(hint) is not dict:
        return all(map(closed, args))
    return hint in (int, float, bool)


def letter(terms: dict[str, Any] | str | None = None, **changes: Any) -> Letter:
    """A question for one round, with ``changes`` to its fields."""
    asked = json.loads(TERMS.to_json()) if terms is None else terms
    text = asked if isinstance(asked, str) else json.dumps(asked)
    return Letter({"terms": text, "round_num": 1, LAST_ROUND: 0, **errand_fields(ERRAND), **changes})


def let_through(asked: Letter, kind: question.Kind = "train") -> question.Question:
    found = read_question(kind, asked)
    refuse_question(ALLOWS, found, NOW)
    return found


def with_value(place: str, value: Any) -> Letter:
    """The question with ``value`` at ``place``, such as ``terms.tasks.schema``."""
    first, *path, last = place.split(".")
    whole = json.loads(TERMS.to_json()) if first == "terms" else errand_fields(ERRAND)
    table = whole
    for key in path:
        table = table[key]
    table[last] = value
    return letter(whole) if first == "terms" else letter(None, **whole)


def test_every_field_that_could_hold_text_is_listed():
    found = open_fields(Terms, "terms") | open_fields(Errand, "errand")
    assert found == HOSTILE.keys() | NEVER_TRAVEL
    assert errand_fields(ERRAND).keys() == ERRAND_FIELDS == {"method", "run", "local", "exchange"}
    assert open_fields(Local, "") == set()


def test_the_question_itself_passes():
    found = let_through(letter())
    assert (found.terms, found.errand, found.round_num, found.last_round) == (TERMS, ERRAND, 1, 0)


@pytest.mark.parametrize("text", [PATH, COMMAND, MODULE])
@pytest.mark.parametrize("place", [place for place, how in HOSTILE.items() if how != "here"])
def test_a_path_a_command_a_module_is_refused(place, text):
    value = [text] if place in ("terms.adapter.targets", "terms.tasks.names") else text
    with pytest.raises(Refused, match=HOSTILE[place]) as caught:
        let_through(with_value(place, value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [place for place, how in HOSTILE.items() if how == "here"])
def test_what_names_files_of_the_model_is_compared_and_nothing_else(place, model_folders, one_thread):
    base = load_base_model(str(model_folders["llama"]), precision="float32")
    same = replace(
        TERMS,
        base_model=base.hash,
        tokenizer=base.encoder.tokenizer_hash(),
        frame=tuple(base.encoder.frame),
        prompts=prompts_here(TERMS.tasks),
    )
    _refuse_other_model(base, same)
    field = place.split(".")[1]
    with pytest.raises(Refused, match=field.replace("_", " ").replace("frame", "chat template")):
        _refuse_other_model(base, replace(same, **{field: (PATH, PATH) if field == "frame" else PATH}))


SCHEMA = schema_record(CLINICAL)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": PATH}, "must begin with a letter"),
        ({"name": "other"}, "is not the name of the schema"),
        ({"entities": ["drug", MODULE]}, "must begin with a letter"),
        ({"modifiers": [COMMAND]}, "must begin with a letter"),
        ({"pairs": ["drug.../x"]}, "unknown type"),
        ({"definitions": {"drug": {"long": "two\nlines", "short": ""}}}, "one line"),
        ({"definitions": {"drug": {"file": PATH}}}, "must map labels"),
        ({"file": PATH}, "file: unknown key"),
        ({"entities": [f"e{n}" for n in range(1000)], "pairs": [], "definitions": {}}, "labels"),
        ({"entities": "drug"}, "must be texts"),
        ({"definitions": json.loads("[" * 500 + "]" * 500)}, "must map labels"),
    ],
)
def test_a_hostile_schema_is_refused(changes, words):
    with pytest.raises(Refused, match=rf"^terms: .*{words}"):
        let_through(with_value("terms.schema_record", {**SCHEMA, **changes}))


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("train", {"path": PATH}, "path: unknown field"),
        ("train", {"decoding": "free"}, "decoding: unknown field"),
        ("train", {"shots": []}, "shots: unknown field"),
        ("train", {"round_num": 0}, "round 0: the study has rounds 1 to 5"),
        ("train", {"round_num": 6}, "round 6: the study has rounds 1 to 5"),
        ("train", {"round_num": 2, LAST_ROUND: 2}, "last_round 2: rounds before round 2, or 0"),
        ("train", {"round_num": 2, LAST_ROUND: 3}, "last_round 3"),
        ("train", {"round_num": "1"}, "round_num is missing or of the wrong kind"),
        ("train", {"local": {"module": MODULE}}, "module: unknown key"),
        ("train", {"local": {"trains": "A"}}, "trains"),
        ("train", {"local": {"proximal": float("inf")}}, "proximal"),
        ("train", {"exchange": {"path": PATH}}, "path: unknown key"),
        ("train", {"method": "x" * 65}, "method"),
        ("describe", {}, "unknown field"),
        ("losses", {}, "unknown field"),
        ("read", {"round_num": None}, "unknown field"),
    ],
)
def test_a_field_out_of_place_is_refused(kind, changes, words):
    with pytest.raises(Refused, match=words):
        let_through(letter(**changes), kind)


def test_how_and_what_is_read():
    fields_ = {"terms": TERMS.to_json(), **errand_fields(ERRAND), "decoding": "free"}
    assert let_through(Letter(fields_), "read").decoding == "free"
    with pytest.raises(Refused, match="decoding 'eval': known are constrained and free"):
        let_through(Letter({**fields_, "decoding": "eval"}), "read")
    with pytest.raises(Refused, match=r"scores = false"):
        refuse_question(Allows(scores=False), read_question("read", Letter(fields_)), NOW)


def test_adapters_to_score_come_under_the_names_of_sites():
    fields_ = {"terms": replace(TERMS, held_out_sentences=3).to_json(), **errand_fields(ERRAND)}
    by_sites = Allows(validates_others=True, shows_adapter=True)
    parts = {"lakeside": b"", "the new adapter": b""}
    refuse_question(by_sites, read_question("losses", Letter(fields_, parts)), NOW)
    for odd in (PATH, "", "x" * 65, "a\n"):
        with pytest.raises(Refused, match="adapters to score"):
            read_question("losses", Letter(fields_, {odd: b""}))
    unheld = read_question("losses", Letter({**fields_, "terms": TERMS.to_json()}))
    with pytest.raises(Refused, match="holds no notes out"):
        refuse_question(by_sites, unheld, NOW)


def test_training_waits_for_its_hours_and_nothing_else_does():
    night = replace(ALLOWS, hours="20:00-06:00")
    with pytest.raises(NotNow):
        refuse_question(night, read_question("train", letter()), NOW)
    refuse_question(night, read_question("train", letter()), NOW.replace(hour=20))
    refuse_question(night, read_question("describe", Letter({"terms": TERMS.to_json()})), NOW)
    # What is refused anyway is refused at once, and does not have to wait for the night.
    with pytest.raises(Refused):
        refuse_question(night, read_question("train", with_value("terms.adapter.rank", 33)), NOW)


# --- anything in place of anything ----------------------------------------------------------------------

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**53, 2**53 + 1, 0, 1, -1])
    | st.floats()  # JSON as Python reads it has NaN and Infinity
    | st.text()
    | st.sampled_from([PATH, COMMAND, MODULE, "both", "model", "any", "all-linear", "float32", "\ud800"])
)
JSON = st.recursive(
    LEAVES, lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(), one, max_size=4)
)


def places(table: dict[str, Any], start: str = "") -> list[str]:
    """Every place of a value in ``table``, tables themselves included."""
    found = []
    for key, value in table.items():
        found.append(start + key)
        if isinstance(value, dict):
            found += places(value, f"{start}{key}.")
    return found


TERMS_PLACES = [f"terms.{place}" for place in places(json.loads(TERMS.to_json()))]
ERRAND_PLACES = [f"errand.{place}" for place in places(errand_fields(ERRAND))]


def assert_within_what_is_allowed(found: question.Question) -> None:
    terms, t = found.terms, found.terms.training
    assert set(terms.tasks.names) <= {"ner", "modifiers"}
    assert 1 <= t.rounds <= 9
    assert 1 <= found.round_num <= t.rounds
    assert 0 <= t.steps_per_round <= 50
    assert t.steps_per_round or t.passes_per_round <= 3
    assert 1 <= terms.adapter.rank <= 32
    assert 0 < terms.adapter.alpha <= 1024
    assert t.max_train_examples == 0 or t.max_train_examples >= 5
    assert terms.held_out_sentences == 0
    assert terms.tasks.schema == terms.schema().name
    assert found.for_method().local.trains != "model"
    assert Terms.from_json(terms.to_json()) == terms


@settings(max_examples=400)
@given(st.sampled_from(TERMS_PLACES + ERRAND_PLACES), JSON)
def test_anything_in_place_of_anything_is_refused_or_within_what_is_allowed(place, value):
    try:
        found = let_through(with_value(place, value))
    except Refused:
        return
    assert_within_what_is_allowed(found)


@given(st.sampled_from(["terms", "round_num", LAST_ROUND, "method", "run", "local", "exchange", "x"]), JSON)
def test_anything_in_place_of_a_field_of_the_letter(field, value):
    try:
        found = let_through(letter(**{field: value}))
    except Refused:
        return
    assert_within_what_is_allowed(found)


@pytest.mark.parametrize("place", TERMS_PLACES + ERRAND_PLACES)
@pytest.mark.parametrize("opening", ["[", '{"a":'], ids=["lists", "tables"])
def test_lists_in_lists_in_lists_are_refused(place, opening):
    deep = json.loads(opening * 400 + "1" + {"[": "]", "{": "}"}[opening[0]] * 400)
    with pytest.raises(Refused):
        let_through(with_value(place, deep))


def test_exchange_is_the_studys_own_table():
    """What a site checks of the codecs is what a study file may hold."""
    assert {one.name for one in fields(Exchange)} == {"upload", "download", "top_k_share"}
