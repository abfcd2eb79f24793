"""An engine is asked what ``generate_texts`` feeds, token for token."""

from __future__ import annotations

import json

import pytest

from fedmedlora.engine.request import Request, refuse_form, requests_of
from fedmedlora.extraction import generate as generate_module
from fedmedlora.extraction.generate import default_limit, generate_texts
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.form import known_forms, load_form, read_by
from fedmedlora.tasks.pieces import pieces

TEXTS = ("Pt denies chest pain.", "", "fever", "fever")


def an_example(text: str, form: str = "markup", instruction: str = "Mark it.") -> Example:
    cut = pieces(text, 0, len(text))
    written = load_form(form).written(cut)
    return Example("n/0", "n", "ner", instruction, written, cut, ("problem",), (), form=form)


@pytest.mark.parametrize("form", [name for name in known_forms() if read_by(name) != "tagging"])
def test_the_same_tokens_as_generate_is_fed(build, encoder, monkeypatch, form):
    examples = [an_example(text, form) for text in TEXTS] + [an_example("fever", form, "Another one.")]
    fed: dict[tuple[int, ...], int] = {}

    def remember(model, encoder, prefix_ids, prefix, prompts, max_new_tokens, rows):
        (prompt,) = prompts
        fed[(*prefix_ids, *prompt)] = max_new_tokens
        return [[encoder.end_id]]

    monkeypatch.setattr(generate_module, "_generate", remember)
    generate_texts(build("llama", 0), encoder, examples, batch_size=1)
    requests = requests_of(encoder, examples, room_tokens=4096, constrained=False)
    assert [fed[one.prompt] for one in requests] == [one.max_tokens for one in requests]
    assert {one.prompt for one in requests} == set(fed)
    assert {(one.end_id, one.schema) for one in requests} == {(encoder.end_id, "")}


def test_none_and_equal_ones(encoder):
    assert requests_of(encoder, [], room_tokens=100, constrained=True) == []
    first, second = requests_of(encoder, [an_example("fever")] * 2, room_tokens=100, constrained=False)
    assert first == second
    assert hash(first) == hash(second)


def test_an_answer_takes_what_the_prompt_leaves(encoder):
    example = an_example("fever")
    needs = len(requests_of(encoder, [example], room_tokens=0, constrained=False)[0].prompt)
    limit = default_limit(encoder, example)
    for room, expected in [(0, 0), (needs, 0), (needs + 1, 1), (needs + limit, limit), (10_000, limit)]:
        (found,) = requests_of(encoder, [example], room_tokens=room, constrained=False)
        assert found.max_tokens == expected


def test_under_a_grammar_the_schema_is_the_forms(encoder):
    (found,) = requests_of(encoder, [an_example("fever", "json")], room_tokens=900, constrained=True)
    schema = json.loads(found.schema)
    assert schema.pop("x-guidance")["whitespace_flexible"] is False
    assert schema == load_form("json").grammar(("problem",))


def test_a_form_that_copies_has_no_grammar_to_hand_over(encoder):
    with pytest.raises(ValueError, match=r"'markup' needs our own decoder.*--decoding free"):
        requests_of(encoder, [an_example("fever")], room_tokens=900, constrained=True)
    with pytest.raises(ValueError, match="our own decoder"):
        refuse_form("markup", constrained=True)
    refuse_form("markup", constrained=False)
    refuse_form("json", constrained=True)


@pytest.mark.parametrize("constrained", [False, True])
def test_a_form_that_generates_nothing_is_not_for_an_engine(constrained):
    with pytest.raises(ValueError, match=r"'tags' is read by tagging.*--engine local"):
        refuse_form("tags", constrained=constrained)


def test_a_free_request_is_plain_numbers_and_holds_no_schema(encoder):
    (found,) = requests_of(encoder, [an_example("fever")], room_tokens=900, constrained=False)
    assert found == Request(found.prompt, found.max_tokens, encoder.end_id, schema="")
    assert {type(token) for token in found.prompt} == {int}, "an engine would copy a tensor back, one by one"
