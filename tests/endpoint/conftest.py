"""A real server on this machine that speaks the chat completions protocol, and examples to ask it about."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from fedmedlora.corpora.note import Entity
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.form import load_form
from fedmedlora.tasks.pieces import pieces

LABELS = ("problem", "drug")


@dataclass
class Reply:
    """What the server sends. ``body``: None for a completion that says ``text``."""

    text: str = "[]"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    finish_reason: str = "stop"
    refusal: str | None = None
    tokens: tuple[int, int] | None = (100, 10)
    delay_s: float = 0.0


def error(status: int, message: str, *, code: str | None = None, param: str | None = None, **headers: str):
    """A refusal, as OpenAI writes it."""
    said = {"error": {"message": message, "type": "some_error", "param": param, "code": code}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, headers=named, body=json.dumps(said).encode())


def mentions(*found: tuple[str, str]) -> str:
    """The answer of a server that keeps to the schema."""
    return json.dumps({"mentions": [{"type": kind, "text": text, "nth": 1} for kind, text in found]})


class ChatServer:
    """``requests``: (path, headers, body) of each, as they came. ``answer(body)`` makes the reply."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.answer: Callable[[dict[str, Any]], Reply] = lambda body: Reply()
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                if len(sent) < int(self.headers["Content-Length"]):  # the client has hung up
                    self.close_connection = True
                    return
                body = json.loads(sent)
                with server.lock:
                    server.requests.append((self.path, dict(self.headers), body))
                reply = server.answer(body)
                time.sleep(reply.delay_s)
                sent = completion(body["model"], reply) if reply.body is None else reply.body
                try:
                    self.send_response(reply.status)
                    for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(sent)))
                    self.end_headers()
                    self.wfile.write(sent)
                except ConnectionError:  # the client did not wait
                    self.close_connection = True

            def log_message(self, *args: Any) -> None: ...

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that hang up are what some tests are about."""
                if not isinstance(sys.exception(), ConnectionError):
                    super().handle_error(request, client_address)

        self.http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def said(self) -> list[str]:
        """The message of each request."""
        return [body["messages"][0]["content"] for _, _, body in self.requests]


def completion(model: str, reply: Reply) -> bytes:
    """A completion as the protocol's own types write it."""
    from openai.types.chat import ChatCompletion

    found: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {
                "index": 0,
                "finish_reason": reply.finish_reason,
                "logprobs": None,
                "message": {
                    "role": "assistant",
                    "content": None if reply.refusal else reply.text,
                    "refusal": reply.refusal,
                },
            }
        ],
    }
    if reply.tokens:
        prompt, answer = reply.tokens
        found["usage"] = {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
        }
    return ChatCompletion.model_validate(found).model_dump_json().encode()


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """What a stop did not wait for is over before the next test begins, and soon."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 10.0
    for thread in set(threading.enumerate()) - before:
        if thread.name != "tqdm_monitor":
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"{thread.name} goes on after the test"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    made = ChatServer()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture(scope="session")
def reply() -> type[Reply]:
    return Reply


@pytest.fixture(scope="session")
def error_reply():
    return error


@pytest.fixture(scope="session")
def answer_text():
    return mentions


@pytest.fixture(scope="session")
def ask():
    """``ask(text, note_id, marked)`` -> an example of form JSON; ``marked``: (label, surface) pairs."""

    def make(text: str, note_id: str = "n", marked=(), labels=LABELS, form: str = "json") -> Example:
        cut = pieces(text, 0, len(text))
        entities = [
            Entity(f"T{i}", label, ((text.index(surface), text.index(surface) + len(surface)),))
            for i, (label, surface) in enumerate(marked)
        ]
        how = load_form(form)
        target, unplaced = how.render(cut, entities, labels)
        assert unplaced == ()
        at = f"{note_id}/0", note_id, "ner"
        shown = how.written(cut)
        return Example(*at, "List it as JSON.\nSentence:", shown, cut, labels, target, form=form)

    return make
