"""An engine that computes as the model in this process finds what it finds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.engine import reader as reader_module
from fedmedlora.engine.reader import EngineReader
from fedmedlora.measure import Form, Reader
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.form import load_form
from fedmedlora.tasks.pieces import pieces

TEXTS = ("Pt denies chest pain.", "fever", "He was started on aspirin 81 mg daily.", "fever")


def some_examples(form: str) -> list[Example]:
    found = []
    for number, text in enumerate(TEXTS):
        cut = pieces(text, 0, len(text))
        written = load_form(form).written(cut)
        labels = ("problem", "drug")
        found.append(
            Example(f"{number}/0", str(number), "ner", "Find it.", written, cut, labels, (), form=form)
        )
    return found


def ignore(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize(
    ("form", "decoding"), [("markup", "free"), ("json", "free"), ("json", "constrained")]
)
def test_reads_what_the_model_in_this_process_reads(load, plain_engine, form, decoding):
    if decoding == "constrained":
        pytest.importorskip("llguidance")
    base = load("llama")
    examples = some_examples(form)
    here = Reader(base, base.model, Form(CLINICAL, output_form=form, decoding=decoding), ignore)
    generate = plain_engine(base.model)
    there = EngineReader(
        generate, base.encoder, ignore, room_tokens=4096, constrained=decoding == "constrained"
    )
    assert there.read(examples) == here.read(examples)
    for count in ("num_examples", "num_unparsed", "num_ungrounded"):
        assert getattr(there, count) == getattr(here, count)
    assert there.num_examples == 4
    assert there.spent() is None
    assert [len(batch) for batch in generate.asked] == [3], "the same sentence twice is one request"


def test_what_was_read_is_not_read_again(load, plain_engine):
    base = load("llama")
    generate = plain_engine(base.model)
    reader = EngineReader(generate, base.encoder, ignore, room_tokens=4096, constrained=False)
    examples = some_examples("markup")
    first = reader.read(examples[:2])
    assert reader.read(examples[:2]) == first
    assert reader.num_examples == 2
    assert len(generate.asked) == 1
    assert reader.read([]) == []


def test_a_prompt_without_room_is_not_asked_and_counts(load, plain_engine):
    base = load("llama")
    generate = plain_engine(base.model)
    reader = EngineReader(generate, base.encoder, ignore, room_tokens=10, constrained=False)
    (found,) = reader.read(some_examples("json")[:1])
    assert (found.mentions, found.complete) == ((), False)
    assert (reader.num_examples, reader.num_unparsed) == (1, 1)
    assert generate.asked == []


def test_an_answer_ends_at_its_end_token_and_at_its_limit(load):
    base = load("llama")
    said = base.encoder.piece("[]")

    def generate(requests):
        return [(*said, base.encoder.end_id, *said) for _ in requests]

    reader = EngineReader(generate, base.encoder, ignore, room_tokens=4096, constrained=False)
    (found,) = reader.read(some_examples("json")[:1])
    assert found.complete


def test_progress_counts_examples_up_to_all_of_them(load, plain_engine, monkeypatch):
    monkeypatch.setattr(reader_module, "AT_ONCE", 2)
    base = load("llama")
    told: list[tuple[int, int]] = []
    reader = EngineReader(
        plain_engine(base.model),
        base.encoder,
        lambda done, total: told.append((done, total)),
        room_tokens=4096,
        constrained=False,
    )
    reader.read(some_examples("markup")[:1])
    reader.read([replace(e, note_id=f"x{e.note_id}") for e in some_examples("markup")])
    # Three requests for four examples, two at once: 2 of 3 is 2.67 of 4.
    assert told == [(1, 1), (4, 5), (5, 5)]
