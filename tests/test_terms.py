"""The terms of a study as text: the same on the other side, and nothing else is read."""

from __future__ import annotations

import json

import pytest

from fedmedlora.study_tables import Lora, Training
from fedmedlora.terms import MAX_CHARACTERS, Terms

TERMS = Terms(
    seed=3,
    base_model="abc",
    tokenizer="def",
    frame=("<user>", "</user>"),
    prompts="ghi",
    held_out_sentences=5,
    adapter=Lora(rank=2, targets=("q_proj",)),
    training=Training(modifier_share=0.25, learning_rate=1e-2),
)


def test_there_and_back():
    text = TERMS.to_json()
    assert "\n" not in text
    assert Terms.from_json(text) == TERMS
    assert Terms.from_json(text).to_json() == text


def changed(**changes) -> str:
    return json.dumps({**json.loads(TERMS.to_json()), **changes})


def test_the_largest_numbers_that_are_read():
    terms = Terms.from_json(changed(training={"steps_per_round": 2**53, "learning_rate": 1e308}))
    assert (terms.training.steps_per_round, terms.training.learning_rate) == (2**53, 1e308)


def test_a_schema_with_a_key_too_many_is_refused():
    terms = Terms.from_json(changed(schema_record={"name": "x", "file": "x.toml"}))
    with pytest.raises(ValueError, match="terms: schema: file: unknown key"):
        terms.schema()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "not a table"),
        ("[" * 100_000, "not JSON"),
        ("{}", "seed: missing"),
        (" " * (MAX_CHARACTERS + 1), "at most"),
        (changed(path="/srv/notes"), "path: unknown key"),
        (changed(seed=-1), "seed: -1 is out of range"),
        (changed(seed=True), "seed: true is not allowed"),
        (changed(frame="x"), "frame"),
        (changed(adapter={"rank": 0}), "rank: 0 is out of range"),
        (changed(training={"micro_batch": 8, "examples_per_step": 4}), "micro_batch"),
        (changed(tasks={"names": ["os.system"]}), 'unknown task "os.system"'),
        (changed(evaluation={"module": "x"}), "module: unknown key"),
        (changed(training={"steps_per_round": 2**53 + 1}), "9007199254740993 is not allowed"),
        (changed(training={"learning_rate": 10**400}), "is not allowed; it must be number"),
        (changed(training={"learning_rate": float("nan")}), "nan is not allowed"),
        (changed(adapter={"targets": [["q"], [["v"]]]}), r"targets: \[\[...\], \[...\]\] is not allowed"),
        (changed(adapter={"targets": [1] * 1000}), r"1, 1, ...\] is not allowed"),
        (changed(tasks={"names": {"a": {"b": 1}}}), "names: a table is not allowed"),
    ],
)
def test_anything_else_is_refused(text, message):
    with pytest.raises(ValueError, match=f"^terms:.*{message}"):
        Terms.from_json(text)
