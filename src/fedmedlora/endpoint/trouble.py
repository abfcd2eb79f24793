"""What a server's refusal means: for one request, which then counts as failed, or for every request.

What a server writes may quote the request, which holds text of a note. It is looked into here and never
passed on: messages say the status, the setting behind it, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedmedlora.endpoint.settings import Endpoint

# What servers call the thing that they do not support; they agree on no code for it.
_FORMAT_WORDS = ("response_format", "response format", "json_schema", "json_object", "schema", "grammar")


@dataclass(frozen=True, slots=True, repr=False)
class Refused:
    """A status other than success, with the server's own ``code``, ``param`` and ``words``."""

    status: int
    code: str = ""
    param: str = ""
    words: str = ""


def reason_to_stop(endpoint: Endpoint, request: Mapping[str, Any], refused: Refused) -> str:
    """What to tell the user where no other request would fare better; "": it is about this one."""
    status, url, model = refused.status, endpoint.url, endpoint.model[:80]
    if 300 <= status < 400:
        return (
            f"url: {url} answers that it lies elsewhere (status {status}); notes are not sent after it. "
            "Write the address that it means"
        )
    if status == 401:
        if not endpoint.key_env:
            return f"key_env: {url} wants a key (status 401); name the environment variable that holds it"
        return f"key_env: {url} does not accept the key in {endpoint.key_env} (status 401); is it for there?"
    if status == 402 or refused.code == "insufficient_quota":
        return f"{url} says that the credit of this key is used up (status {status}); top it up and go on"
    if status == 403:
        return f"{url} does not let this key use {model} (status 403); ask whoever gave it out"
    if status in (404, 405) or refused.code == "model_not_found":
        return (
            f"url, model: {url} has no chat completions by {model} (status {status}); url is what stands "
            "before /chat/completions and often ends in /v1, and model is named as the server names it"
        )
    if status in (400, 415, 422, 501):
        return _not_supported(endpoint, request, refused)
    return ""


def _not_supported(endpoint: Endpoint, request: Mapping[str, Any], refused: Refused) -> str:
    here, model = f"{endpoint.url} does not accept", endpoint.model[:80]
    hints = {
        "temperature": f'{endpoint.temperature}; "default" sends none',
        "seed": f'{endpoint.seed}; "none" sends none',
        "max_completion_tokens": 'that name; try limit_name = "max_tokens", or a smaller max_answer_tokens',
        "max_tokens": 'that name; try limit_name = "max_completion_tokens", or a smaller max_answer_tokens',
    }
    if refused.param in hints and refused.param in request:
        return f"{refused.param}: {here} {hints[refused.param]} (status {refused.status})"
    # Many servers name the parameter in words only.
    words = refused.param or refused.words.lower()
    if "response_format" in request and any(word in words for word in _FORMAT_WORDS):
        others = {"json_schema": '"json_object" or "none"', "json_object": '"json_schema" or "none"'}
        return (
            f'structured: {here} "{endpoint.structured}" for {model} (status {refused.status}); try '
            f"{others[endpoint.structured]}. It is not changed for you, for answers are then held to less"
        )
    return ""
