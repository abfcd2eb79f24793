"""Answers held against responses, and records that a model cannot look at."""

from __future__ import annotations

import json

import pytest

from fedmedlora.answering import answer
from fedmedlora.corpora.instructions import read_instructions
from fedmedlora.model.load import load_base_model


@pytest.fixture
def records(tmp_path):
    def read(score: str, *lines: dict[str, object]):
        header = {"format": "fedmedlora-instructions", "version": 1, "score": score}
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)))
        return read_instructions(tmp_path / "a.jsonl").notes

    return read


@pytest.mark.parametrize("score", ["exact_match", "token_f1", "choice"])
def test_a_record_that_is_too_long_is_wrong_and_counted(score, records, model_folders):
    base = load_base_model(str(model_folders["gpt2"]), precision="float32")  # learned positions: 4096
    long = {"id": "long", "prompt": "fever " * 5000, "response": "no", "choices": ["yes", "no"]}
    short = {"id": "short", "prompt": "fever?", "response": "no", "choices": ["yes", "no"]}
    told = []
    found, num_unread = answer(
        base,
        base.model,
        records(score, long, short),
        batch_size=2,
        max_answer_tokens=3,
        report=lambda *p: told.append(p),
    )
    assert list(found) == ["long", "short"]
    assert found["long"] == 0
    assert num_unread == 1
    assert told


def test_the_most_likely_choice_counts(records, model_folders, monkeypatch):
    from fedmedlora import answering

    base = load_base_model(str(model_folders["llama"]), precision="float32")
    lines = [
        {"prompt": "a", "response": "y", "choices": ["x", "y"]},
        {"prompt": "b", "response": "x", "choices": ["x", "y", "z"]},
        {"prompt": "c", "response": "x", "choices": ["x", "y"]},
    ]
    # x and y; x, y and z; x and y, which are as likely: then the first counts.
    likelihoods = [-2.0, -1.0, -3.0, -2.0, -5.0, -4.0, -4.0]
    monkeypatch.setattr(answering, "log_likelihoods", lambda *a, **k: likelihoods)
    settings = {"batch_size": 2, "max_answer_tokens": 3, "report": lambda *p: None}
    found, num_unread = answer(base, base.model, records("choice", *lines), **settings)
    assert found == {"2": 1.0, "3": 0.0, "4": 1.0}
    assert num_unread == 0
    likelihoods[0] = float("nan")  # an adapter that diverged
    found, num_unread = answer(base, base.model, records("choice", *lines), **settings)
    assert found == {"2": 0.0, "3": 0.0, "4": 1.0}
    assert num_unread == 1
    assert answer(base, base.model, (), **settings) == ({}, 0)
