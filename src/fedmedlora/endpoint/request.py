"""An example as the body of one chat completion request: pure, the same bytes for the same example.

The one message is what a model of ours is shown as the user's message: instruction, line break, input
(``model/tokens.py``). A server that holds answers to JSON wants an object around the list, so one sentence
in front says so, then and only then.

Protocol: OpenAI, "Chat Completions", https://platform.openai.com/docs/api-reference/chat/create; what a
strict schema may hold: "Structured Outputs", https://platform.openai.com/docs/guides/structured-outputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from fedmedlora.endpoint.settings import Endpoint
from fedmedlora.tasks.example import Example

FORM = "json"  # the output form that answers are read in
LIST = "mentions"  # the one key of the object around the list

_AROUND = f'Answer with one JSON object, {{"{LIST}": LIST}}, where LIST is the list described here.\n\n'


def body(endpoint: Endpoint, example: Example) -> dict[str, Any]:
    """The request that asks for ``example``: keys and values of the protocol, JSON types only.

    Raises ``ValueError`` for an example of another form than JSON.
    """
    if example.form != FORM:
        raise ValueError(
            f'example {example.id} is of form "{example.form}"; a chat model is asked in form "{FORM}" '
            '(form = "json" under [tasks])'
        )
    asked = "".join(example.input)
    text = f"{example.instruction}\n{asked}" if example.instruction else asked
    if endpoint.structured != "none":
        text = _AROUND + text
    found: dict[str, Any] = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": _encodable(text)}],
        endpoint.limit_name: endpoint.max_answer_tokens,
    }
    if endpoint.temperature != "default":
        found["temperature"] = endpoint.temperature
    if endpoint.seed != "none":
        found["seed"] = endpoint.seed
    if endpoint.structured == "json_schema":
        described = {"name": LIST, "strict": True, "schema": schema(example.labels)}
        found["response_format"] = {"type": "json_schema", "json_schema": described}
    elif endpoint.structured == "json_object":
        found["response_format"] = {"type": "json_object"}
    return found


def schema(labels: Sequence[str]) -> dict[str, Any]:
    """The JSON schema of answers with ``labels``, as strict servers want it.

    It departs from the form's own grammar where they do: the list stands in an object, every key is
    required (so the first place is 1, which the form leaves out), and no length or range is set.
    """
    item = {
        "type": {"type": "string", "enum": list(labels)},
        "text": {"type": "string"},
        "nth": {
            "type": "integer",
            "description": "1 for the first place that holds this text, 2 for the second",
        },
    }
    return _whole({LIST: {"type": "array", "items": _whole(item)}})


def key(endpoint: Endpoint, request: dict[str, Any]) -> str:
    """sha256 of where ``request`` goes and all that it holds: what an answer is kept under."""
    text = json.dumps([endpoint.url.rstrip("/"), request], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _whole(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _encodable(text: str) -> str:
    """Half characters, which UTF-8 cannot hold, as replacement characters."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
