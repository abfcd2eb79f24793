"""The body of a request: the protocol's own keys, and the very words that a model of ours is shown."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fedmedlora.endpoint.request import body, key, schema
from fedmedlora.endpoint.settings import Endpoint
from fedmedlora.tasks.form import load_form

LOCAL = Endpoint(url="http://127.0.0.1:8000/v1", model="some-model")
SHOWN = "List it as JSON.\nSentence:\nNo rash < 3 days"
AROUND = 'Answer with one JSON object, {"mentions": LIST}, where LIST is the list described here.\n\n'


def test_a_request_by_the_defaults(ask):
    properties = {
        "type": {"type": "string", "enum": ["problem", "drug"]},
        "text": {"type": "string"},
        "nth": {
            "type": "integer",
            "description": "1 for the first place that holds this text, 2 for the second",
        },
    }
    item = {
        "type": "object",
        "properties": properties,
        "required": ["type", "text", "nth"],
        "additionalProperties": False,
    }
    assert body(LOCAL, ask("No rash < 3 days")) == {
        "model": "some-model",
        "messages": [{"role": "user", "content": AROUND + SHOWN}],
        "max_completion_tokens": 2048,
        "temperature": 0.0,
        "seed": 1,
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "mentions",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {"mentions": {"type": "array", "items": item}},
                    "required": ["mentions"],
                    "additionalProperties": False,
                },
            },
        },
    }


def test_what_is_not_to_be_sent_is_not(ask):
    bare = replace(
        LOCAL,
        structured="none",
        temperature="default",
        seed="none",
        limit_name="max_tokens",
        max_answer_tokens=7,
    )
    assert body(bare, ask("No rash < 3 days")) == {
        "model": "some-model",
        "messages": [{"role": "user", "content": SHOWN}],
        "max_tokens": 7,
    }


def test_any_json_object(ask):
    asked = body(replace(LOCAL, structured="json_object"), ask("No rash < 3 days"))
    assert asked["response_format"] == {"type": "json_object"}
    assert asked["messages"][0]["content"] == AROUND + SHOWN


def test_the_message_is_what_a_model_of_ours_is_shown(ask, encoder):
    for example in (ask("No rash < 3 days"), replace(ask("aspirin"), instruction="")):
        content = body(replace(LOCAL, structured="none"), example)["messages"][0]["content"]
        shown = (*encoder.prefix(example.instruction), *encoder.prompt(example))
        assert encoder.decode(shown) == content + encoder.frame[1]


@pytest.mark.parametrize("labels", [("problem",), ("problem", "drug"), ("Song-bird", 'a "quoted" one')])
def test_the_schema_says_what_the_form_reads(labels):
    ours = schema(labels)["properties"]["mentions"]["items"]["properties"]
    forms = load_form("json").grammar(labels)["items"]["properties"]
    assert list(ours) == list(forms)
    assert ours["type"]["enum"] == forms["type"]["enum"] == list(labels)


def test_an_example_of_another_form_is_refused_without_its_text(ask):
    with pytest.raises(ValueError, match='n/0 is of form "markup"') as refusal:
        body(LOCAL, ask("No rash", form="markup"))
    assert "rash" not in str(refusal.value)


def test_half_characters_can_be_sent(ask):
    content = body(LOCAL, ask("a \ud800 b 😀"))["messages"][0]["content"]
    assert content.endswith("a \ufffd b 😀")


def test_an_answer_is_kept_under_all_that_it_depends_on(ask):
    one = ask("No rash")

    def name(endpoint, example=one):
        found = key(endpoint, body(endpoint, example))
        assert len(bytes.fromhex(found)) == 32
        return found

    # The same request: another place of the same sentence, another patience, the same address.
    same = replace(LOCAL, timeout_s=1.0, max_retries=0, parallel_requests=9, url=LOCAL.url + "/")
    assert name(LOCAL) == name(same) == name(LOCAL, ask("No rash", note_id="other"))
    others = [
        name(LOCAL, ask("no rash")),
        name(LOCAL, ask("No rash", labels=("drug",))),
        name(replace(LOCAL, url="http://127.0.0.1:8001/v1")),
        name(replace(LOCAL, model="another")),
        name(replace(LOCAL, temperature=0.5)),
        name(replace(LOCAL, seed=2)),
        name(replace(LOCAL, structured="none")),
        name(replace(LOCAL, max_answer_tokens=9)),
    ]
    assert len({name(LOCAL), *others}) == 1 + len(others)


def test_a_request_is_one_of_the_protocol(ask):
    from openai.types.chat import completion_create_params
    from openai.types.shared_params import ResponseFormatJSONObject, ResponseFormatJSONSchema
    from pydantic import TypeAdapter

    known = completion_create_params.CompletionCreateParamsNonStreaming.__annotations__
    known |= completion_create_params.CompletionCreateParamsBase.__annotations__
    for structured in ("json_schema", "json_object", "none"):
        for limit_name in ("max_completion_tokens", "max_tokens"):
            asked = body(replace(LOCAL, structured=structured, limit_name=limit_name), ask("No rash"))
            assert set(asked) <= set(known)
            said = asked.get("response_format")
            if said:
                of = ResponseFormatJSONSchema if structured == "json_schema" else ResponseFormatJSONObject
                assert TypeAdapter(of).validate_python(said, strict=True) == said
            assert json.loads(json.dumps(asked)) == asked
