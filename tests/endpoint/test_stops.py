"""What stops the reading: a message that says what to do, and holds neither the key nor text of a note."""

from __future__ import annotations

import logging
import sys
import threading
import time
from dataclasses import replace

import pytest

from fedmedlora.endpoint.reader import EndpointReader
from fedmedlora.endpoint.settings import Endpoint

KEY = "sk-QuartziteKey0123456789"
NOTE = "Okapi zeppelin quartzite rash"


def silent(done: int, total: int) -> None: ...


@pytest.fixture
def endpoint(server, monkeypatch) -> Endpoint:
    monkeypatch.setenv("TEST_MODEL_KEY", KEY)
    return Endpoint(
        url=server.url, model="some-model", key_env="TEST_MODEL_KEY", timeout_s=5.0, max_retries=0
    )


def chain(error: BaseException | None) -> list[BaseException]:
    """The error and all that a traceback would show or keep with it."""
    return [] if error is None else [error, *chain(error.__cause__), *chain(error.__context__)]


@pytest.mark.parametrize(
    ("status", "more", "change", "message"),
    [
        (401, {}, {}, "does not accept the key in TEST_MODEL_KEY"),
        (401, {}, {"key_env": ""}, r"wants a key \(status 401\); name the environment variable"),
        (402, {}, {}, "credit of this key is used up"),
        (429, {"code": "insufficient_quota"}, {}, "credit of this key is used up"),
        (403, {}, {}, "does not let this key use some-model"),
        (404, {}, {}, "^url, model: .* has no chat completions by some-model"),
        (405, {}, {}, "^url, model: "),
        (400, {"code": "model_not_found"}, {}, "^url, model: "),
        (
            400,
            {"param": "response_format"},
            {},
            '^structured: .* "json_schema" .* try "json_object" or "none"',
        ),
        (422, {"param": "response_format"}, {"structured": "json_object"}, 'try "json_schema" or "none"'),
        (400, {"param": "temperature"}, {}, '^temperature: .* does not accept 0.0; "default" sends none'),
        (400, {"param": "seed"}, {}, '^seed: .* does not accept 1; "none" sends none'),
        (400, {"param": "max_completion_tokens"}, {}, 'limit_name = "max_tokens"'),
        (400, {"param": "max_tokens"}, {"limit_name": "max_tokens"}, 'limit_name = "max_completion_tokens"'),
        (307, {"Location": "https://elsewhere.example/v1"}, {}, "^url: .* lies elsewhere"),
        (302, {"Location": "/v2/chat/completions"}, {}, "^url: .* lies elsewhere"),
    ],
)
def test_what_stops_every_request_stops(server, endpoint, ask, error_reply, status, more, change, message):
    # The worst that a server can do is to quote all that it was sent.
    server.answer = lambda body: error_reply(status, f"{KEY} {body}", **more)
    reader = EndpointReader(replace(endpoint, **change), silent)
    with pytest.raises(ValueError, match=message) as stop:
        reader.read([ask(NOTE)])
    for error in chain(stop.value):
        shown = f"{error!s} {error!r} {vars(error)}"
        assert not [word for word in (KEY, *NOTE.split()) if word in shown]
    assert len(server.requests) == 1  # neither sent again nor sent on
    assert not any(word in f"{reader!r} {reader.usage!r} {endpoint!r}" for word in (KEY, *NOTE.split()))


@pytest.mark.parametrize(
    ("structured", "words", "param", "stops"),
    [
        ("json_schema", "This response_format type is unavailable now", None, True),
        ("json_schema", "model does not support response format `json_schema`", None, True),
        ("json_schema", "failed to parse grammar", None, True),
        ("json_object", "'messages' must contain the word 'json' to use 'json_object'", None, True),
        ("json_schema", "maximum context length is 8192 tokens", None, False),
        # The server says which parameter it means, whatever else it quotes.
        ("json_schema", "too long: {'response_format': ...}", "messages", False),
        # Not asked for, so not what is refused.
        ("none", "no such schema", None, False),
    ],
)
def test_a_form_that_a_server_does_not_know_is_not_given_up_in_silence(
    server, endpoint, ask, error_reply, structured, words, param, stops
):
    server.answer = lambda body: error_reply(400, words, param=param)
    reader = EndpointReader(replace(endpoint, structured=structured), silent)
    if stops:
        with pytest.raises(ValueError, match=r"structured: .* It is not changed for you"):
            reader.read([ask(NOTE)])
    else:
        reader.read([ask(NOTE)])
        assert reader.usage.num_failed == 1
    assert len(server.requests) == 1


def test_a_stop_does_not_wait_for_what_is_under_way(server, endpoint, ask, reply, error_reply):
    def answer(body):
        is_last = body["messages"][0]["content"].endswith("stop")
        return error_reply(401, "no", x="y") if is_last else reply(delay_s=3.0)

    server.answer = answer
    reader = EndpointReader(replace(endpoint, parallel_requests=2, max_retries=3), silent)
    began = time.monotonic()
    with pytest.raises(ValueError, match="401"):
        reader.read([ask("slow"), ask("stop"), ask("never"), ask("never again")])
    assert time.monotonic() - began < 2.0
    assert len(server.requests) <= 3


def test_what_waits_for_its_turn_is_not_sent_after_a_stop(server, endpoint, ask, error_reply):
    server.answer = lambda body: error_reply(401, "no")
    reader = EndpointReader(replace(endpoint, parallel_requests=3, requests_per_minute=60.0), silent)
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="401"):
        reader.read([ask("now"), ask("in a second"), ask("in two")])
    for thread in set(threading.enumerate()) - before:
        if "process_request" not in thread.name:  # the server's own, which may not even have begun
            thread.join(10.0)
    assert server.said() == [server.said()[0]]
    assert reader.usage.num_retries == 0


def test_what_waits_to_be_sent_again_is_not_sent_after_a_stop(server, endpoint, ask, error_reply):
    def answer(body):
        is_last = body["messages"][0]["content"].endswith("stop")
        return error_reply(401, "no") if is_last else error_reply(503, "busy", Retry_After="1")

    server.answer = answer
    reader = EndpointReader(replace(endpoint, parallel_requests=2, max_retries=8), silent)
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="401"):
        reader.read([ask("busy"), ask("stop")])
    began = time.monotonic()
    for thread in set(threading.enumerate()) - before:
        if "process_request" not in thread.name:  # the server's own, which may not even have begun
            thread.join(10.0)
    assert time.monotonic() - began < 3.0  # after the wait that was under way, and not after eight
    assert len(server.requests) <= 2


# --- before anything is sent ------------------------------------------------------------------------------


def test_notes_stay_without_permission():
    away = Endpoint(url="https://api.example.com/v1", model="m")
    with pytest.raises(ValueError, match="notes_may_leave"):
        EndpointReader(away, silent)
    EndpointReader(replace(away, notes_may_leave=True), silent)


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_a_key_that_is_not_there_is_missed(endpoint, monkeypatch, value):
    if value is None:
        monkeypatch.delenv("TEST_MODEL_KEY")
    else:
        monkeypatch.setenv("TEST_MODEL_KEY", value)
    with pytest.raises(ValueError, match="TEST_MODEL_KEY is not set, or empty"):
        EndpointReader(endpoint, silent)


@pytest.mark.parametrize("value", [f"{KEY}\nX-Other: 1", f"{KEY} x", f"{KEY}é"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(endpoint, monkeypatch, value):
    monkeypatch.setenv("TEST_MODEL_KEY", value)
    with pytest.raises(ValueError, match="TEST_MODEL_KEY holds is no key") as refusal:
        EndpointReader(endpoint, silent)
    assert KEY not in str(refusal.value)


def test_without_the_library_it_says_what_to_install(endpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ValueError, match=r"fedmedlora\[endpoint\]"):
        EndpointReader(endpoint, silent)


# --- nothing of the environment, nothing in a log ---------------------------------------------------------


def test_nothing_but_the_named_key_is_taken_from_the_environment(server, endpoint, ask, monkeypatch):
    for name, value in {
        "OPENAI_API_KEY": "other-key",
        "OPENAI_ADMIN_KEY": "other-key",
        "OPENAI_ORG_ID": "other-org",
        "OPENAI_PROJECT_ID": "other-project",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/other",
        "OPENAI_CUSTOM_HEADERS": "X-Other: other\nAuthorization: Bearer other\nHost: other\nCookie: other=1",
        # Nobody listens there.
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "",
    }.items():
        monkeypatch.setenv(name, value)
    for key_env, expected in (("TEST_MODEL_KEY", f"Bearer {KEY}"), ("", None)):
        server.requests.clear()
        reader = EndpointReader(replace(endpoint, key_env=key_env), silent)
        reader.read([ask("fine")])
        assert reader.num_unparsed == 0
        [(_, headers, _)] = server.requests
        assert headers.get("Authorization") == expected
        assert headers["Host"] == server.url.removeprefix("http://").removesuffix("/v1")
        assert "other" not in str(headers).lower()


def test_a_cookie_is_not_sent_back(server, endpoint, ask, reply):
    server.answer = lambda body: reply(headers={"Set-Cookie": "seen=1; Path=/"})
    EndpointReader(replace(endpoint, parallel_requests=1), silent).read([ask("a"), ask("b")])
    assert [headers.get("Cookie") for _, headers, _ in server.requests] == [None, None]


def test_the_log_holds_neither_key_nor_note(server, endpoint, ask, reply, error_reply, caplog):
    replies = [
        error_reply(500, NOTE, Retry_After="0.01"),
        error_reply(400, NOTE),
        reply(f'[{{"text": "{NOTE}"'),
    ]
    server.answer = lambda body: replies.pop(0)
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "openai._base_client", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    reader = EndpointReader(replace(endpoint, max_retries=1, parallel_requests=1), silent)
    reader.read([ask(NOTE), ask(f"{NOTE} again")])
    told = "\n".join(f"{r.name} {r.getMessage()} {r.args} {r.exc_info}" for r in caplog.records)
    assert "HTTP Request: POST" in told
    assert "openai._base_client" in told
    assert not [word for word in (KEY, *NOTE.split()) if word in told]
