"""Reading over a real connection: what is asked, what is read, and what counts as what."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

from fedmedlora.endpoint.reader import EndpointReader
from fedmedlora.endpoint.settings import Endpoint
from fedmedlora.tasks.form import Reading
from fedmedlora.tasks.markup import Mention

RASH = Reading((Mention("problem", 3, 7),), True, 0)  # "No rash"
NOTHING = Reading((), True, 0)
UNPARSED = Reading((), False, 0)


@pytest.fixture
def endpoint(server) -> Endpoint:
    return Endpoint(url=server.url, model="some-model", timeout_s=5.0, max_retries=0)


def silent(done: int, total: int) -> None: ...


def counts(reader: EndpointReader) -> tuple[int, int, int]:
    return reader.num_examples, reader.num_unparsed, reader.num_ungrounded


def test_nothing_to_read_asks_nothing(server, endpoint):
    reader = EndpointReader(endpoint, silent)
    assert reader.read([]) == []
    assert server.requests == []
    assert counts(reader) == (0, 0, 0)
    assert reader.usage.num_requests == 0


def test_answers_are_read_and_counted(server, endpoint, ask, reply, answer_text):
    answers = {
        "No rash": answer_text(("problem", "rash")),
        "aspirin, aspirin": '{"mentions":[{"type":"drug","text":"aspirin","nth":2}]}',
        "fine": '[{"type":"problem","text":"fever"}]',
    }
    server.answer = lambda body: reply(answers[body["messages"][0]["content"].rsplit("\n", 1)[1]])
    reader = EndpointReader(endpoint, silent)
    examples = [ask("fine", "c"), ask("No rash", "a"), ask("aspirin, aspirin", "b")]
    assert reader.read(examples) == [
        Reading((), True, 1),  # fever: the sentence does not hold it
        RASH,
        Reading((Mention("drug", 9, 16),), True, 0),
    ]
    assert counts(reader) == (3, 0, 1)
    assert {path for path, _, _ in server.requests} == {"/v1/chat/completions"}
    used = reader.usage
    # 3 answers of 100 + 10 tokens
    assert (used.num_requests, used.num_cached, used.num_failed, used.num_retries) == (3, 0, 0, 0)
    assert (used.prompt_tokens, used.completion_tokens, used.cost, used.currency) == (300, 30, None, "USD")


def test_what_goes_out_is_the_body_and_few_headers(server, endpoint, ask):
    from fedmedlora.endpoint.request import body

    example = ask("Nö rash")
    EndpointReader(endpoint, silent).read([example])
    [(_, headers, sent)] = server.requests
    assert sent == body(endpoint, example)
    assert sent["response_format"]["json_schema"]["strict"] is True
    names = {"Host", "Accept", "Content-Type", "Content-Length", "User-Agent"}
    assert set(headers) == names
    assert headers["User-Agent"] == "fedmedlora"


def test_the_same_request_is_made_once_and_each_example_read(server, endpoint, ask, reply, answer_text):
    server.answer = lambda body: reply(answer_text(("problem", "rash")))
    told = []
    reader = EndpointReader(endpoint, lambda done, total: told.append((done, total)))
    twice = ask("No rash", "a")
    later = replace(
        twice, note_id="b", pieces=tuple(replace(p, start=p.start + 10, end=p.end + 10) for p in twice.pieces)
    )
    assert reader.read([twice, later, twice]) == [RASH, Reading((Mention("problem", 13, 17),), True, 0), RASH]
    assert told == [(2, 2)]
    assert reader.read([later, ask("No rash", "c")])[1] == RASH
    assert told == [(2, 2), (3, 3)]
    assert len(server.requests) == 1
    assert counts(reader) == (3, 0, 0)
    assert reader.usage.num_requests == 1


def test_results_keep_their_order_whatever_is_answered_first(server, endpoint, ask, reply, answer_text):
    at_once = threading.Barrier(3, timeout=5)

    def answer(body):
        at_once.wait()  # three requests are under way at the same time, or this breaks
        number = int(body["messages"][0]["content"][-1])
        return reply(answer_text(("problem", f"rash{number}")), delay_s=0.1 - 0.03 * number)

    server.answer = answer
    told = []
    reader = EndpointReader(
        replace(endpoint, parallel_requests=3), lambda done, total: told.append((done, total))
    )
    examples = [ask(f"{'x' * i} rash{i}", f"n{i}") for i in range(3)]
    found = reader.read(examples)
    assert [r.mentions for r in found] == [(Mention("problem", i + 1, i + 6),) for i in range(3)]
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ({"refusal": "I cannot help with rash."}, UNPARSED),
        ({"text": ""}, UNPARSED),
        ({"text": "I am sorry, I cannot read this."}, UNPARSED),
        ({"text": '{"mentions": {"problem": "rash"}}'}, UNPARSED),
        ({"text": '{"mentions":[{"type":"bird","text":"rash","nth":1}]}'}, UNPARSED),
        # What was whole before the cut is kept, as it is of a model of ours.
        (
            {"text": '{"mentions":[{"type":"problem","text":"rash","nth":1},{"ty', "finish_reason": "length"},
            Reading(RASH.mentions, False, 0),
        ),
        ({"text": '[{"type":"problem","text":"rash"}]', "finish_reason": "length"},
         Reading(RASH.mentions, False, 0)),
        ({"text": "[]", "finish_reason": "content_filter"}, UNPARSED),
        ({"text": '```json\n[{"type": "problem", "text": "rash"}]\n```'}, RASH),
        ({"text": "[]", "tokens": None}, NOTHING),
    ],
)  # fmt: skip
def test_answers_of_every_kind(server, endpoint, ask, reply, made, expected):
    server.answer = lambda body: reply(**made)
    reader = EndpointReader(endpoint, silent)
    assert reader.read([ask("No rash")]) == [expected]
    assert reader.num_unparsed == (not expected.complete)
    assert reader.usage.num_failed == 0


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"[]", b"{}", b'"x"', b"7", b"not JSON", b"\xff\xfe", b"[" * 100_000),
        *(b'{"choices": null}', b'{"choices": []}', b'{"choices": [7]}', b'{"choices": [{}]}'),
        *(b'{"choices": {"0": 1}}', b'{"choices": [{"message": null}]}'),
    ],
)
def test_what_is_no_completion_counts_as_failed(server, endpoint, ask, reply, body):
    server.answer = lambda asked: reply(body=body)
    reader = EndpointReader(endpoint, silent)
    assert reader.read([ask("No rash")]) == [UNPARSED]
    assert reader.usage.num_failed == 1
    assert counts(reader) == (1, 1, 0)


@pytest.mark.parametrize(
    "message",
    [
        {"content": None},
        {"content": 7},
        {"content": [{"type": "text", "text": "[]"}]},
        {"content": {}},
        {"content": "\ud800"},
        {"content": '[{"type":"problem","text":"rash"}]', "refusal": "No."},
        {},
        5,
    ],
)
def test_content_that_is_no_text_is_an_empty_answer(server, endpoint, ask, reply, message):
    sent = {"choices": [{"message": message}], "usage": {"prompt_tokens": "many", "completion_tokens": -1}}
    server.answer = lambda asked: reply(body=json.dumps(sent).encode())
    reader = EndpointReader(endpoint, silent)
    assert reader.read([ask("No rash")]) == [UNPARSED]
    assert (reader.usage.prompt_tokens, reader.usage.completion_tokens) == (0, 0)


def test_a_page_in_place_of_json_counts_as_failed(server, endpoint, ask, reply):
    page = {"headers": {"Content-Type": "text/html"}, "body": b"<html>log in first</html>"}
    server.answer = lambda asked: reply(**page)
    assert EndpointReader(endpoint, silent).read([ask("No rash")]) == [UNPARSED]


# --- retries, and what they cannot mend -----------------------------------------------------------------


def test_retry_after_is_kept_to_and_an_error_of_the_server_retried(
    server, endpoint, ask, reply, error_reply, answer_text
):
    replies = [
        error_reply(429, "slow down", Retry_After="0.05"),
        error_reply(500, "oops", Retry_After="0.05"),
        reply(answer_text(("problem", "rash"))),
    ]
    server.answer = lambda body: replies.pop(0)
    reader = EndpointReader(replace(endpoint, max_retries=2), silent)
    assert reader.read([ask("No rash")]) == [RASH]
    used = reader.usage
    assert (used.num_requests, used.num_retries, used.num_failed) == (1, 2, 0)
    assert server.requests[0][2] == server.requests[2][2]


def test_a_request_that_fails_for_good_is_unparsed_and_the_rest_goes_on(
    server, endpoint, ask, reply, error_reply
):
    def answer(body):
        is_bad = body["messages"][0]["content"].endswith("bad")
        return error_reply(503, "No rash, bad", Retry_After="0.01") if is_bad else reply("[]")

    server.answer = answer
    reader = EndpointReader(replace(endpoint, max_retries=1), silent)
    assert reader.read([ask("bad"), ask("good")]) == [UNPARSED, NOTHING]
    assert counts(reader) == (2, 1, 0)
    used = reader.usage
    assert (used.num_requests, used.num_retries, used.num_failed) == (2, 1, 1)
    assert (used.prompt_tokens, used.completion_tokens) == (100, 10)


def test_a_silent_server_is_not_waited_for(server, endpoint, ask, reply):
    server.answer = lambda body: reply(delay_s=0.5)
    reader = EndpointReader(replace(endpoint, timeout_s=0.1), silent)
    assert reader.read([ask("No rash")]) == [UNPARSED]
    assert reader.usage.num_failed == 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_status_about_this_request_fails_this_request(server, endpoint, ask, error_reply, status):
    server.answer = lambda body: error_reply(
        status, "This model's maximum context length is 8 tokens", code="x"
    )
    reader = EndpointReader(endpoint, silent)
    assert reader.read([ask("No rash")]) == [UNPARSED]
    assert reader.usage.num_failed == 1


def test_a_server_that_is_down_is_no_model_that_finds_nothing(server, endpoint, ask):
    server.http.shutdown()
    server.http.server_close()
    reader = EndpointReader(endpoint, silent)
    assert reader.read([ask(f"No rash {i}") for i in range(19)]) == [UNPARSED] * 19
    with pytest.raises(
        ValueError, match=r"last 20 requests all failed \(20 x no connection \(ConnectError\)\)"
    ):
        reader.read([ask("aspirin")])


def test_failures_with_an_answer_between_them_go_on(server, endpoint, ask, reply, error_reply):
    def answer(body):
        return reply("[]") if body["messages"][0]["content"].endswith(" 15") else error_reply(503, "oops")

    server.answer = answer
    reader = EndpointReader(replace(endpoint, parallel_requests=1), silent)
    reader.read([ask(f"No rash {i}") for i in range(30)])
    assert counts(reader) == (30, 29, 0)


# --- what reading costs, and answers that are kept --------------------------------------------------------


def test_cost_is_by_the_prices_or_none(server, endpoint, ask, reply):
    priced = replace(endpoint, price_per_million_input=2.0, price_per_million_output=8.0, currency="EUR")
    reader = EndpointReader(priced, silent)
    reader.read([ask("a"), ask("b")])
    # 200 tokens at 2 and 20 at 8 a million: 400e-6 + 160e-6
    assert reader.usage.cost == pytest.approx(560e-6)
    assert reader.usage.currency == "EUR"
    server.answer = lambda body: reply(tokens=None)
    reader.read([ask("c")])
    assert reader.usage.cost is None  # more than what was counted


class Kept(dict[str, str]):
    """A store in memory; empty it is false, like any dict."""

    def put(self, key: str, answer: str) -> None:
        self[key] = answer


def test_a_run_that_was_stopped_asks_for_the_rest_only(
    server, endpoint, ask, reply, error_reply, answer_text
):
    rash = ask("No rash", "a")
    cut = ask("cut", "b")
    priced = replace(endpoint, price_per_million_input=1.0, parallel_requests=1)

    def answer(body):
        content = body["messages"][0]["content"]
        if content.endswith("cut"):
            return reply("[", finish_reason="length")
        if content.endswith("rash"):
            return reply(answer_text(("problem", "rash")))
        return error_reply(401, "no longer")

    server.answer = answer
    store = Kept()
    with pytest.raises(ValueError, match="401"):
        EndpointReader(priced, silent, store=store).read([rash, cut, ask("more", "c")])
    assert len(store) == 2
    assert all(len(name) == 64 and line.isascii() and "\n" not in line for name, line in store.items())

    server.answer = lambda body: reply("[]")
    told = []
    again = EndpointReader(priced, lambda done, total: told.append((done, total)), store=store)
    assert again.read([rash, cut, ask("more", "c")]) == [RASH, UNPARSED, NOTHING]
    assert len(server.requests) == 4
    assert told == [(1, 3), (2, 3), (3, 3)]
    used = again.usage
    assert (used.num_requests, used.num_cached, used.num_failed) == (3, 2, 0)
    # As if it had not been stopped: 3 answers of 100 + 10 tokens.
    assert (used.prompt_tokens, used.completion_tokens, used.cost) == (300, 30, 300e-6)


@pytest.mark.parametrize(
    "line", ["", "x", "{}", "[]", '["[]",false]', '["[]",1,1,1]', '["[]",false,-1,1]', "[" * 99_999]
)
def test_a_kept_answer_that_cannot_be_read_is_asked_for_again(server, endpoint, ask, line):
    class Damaged(Kept):
        def get(self, key: str) -> str:
            return line

    store = Damaged()
    assert EndpointReader(endpoint, silent, store=store).read([ask("fine")]) == [NOTHING]
    assert len(server.requests) == 1
    assert list(store.values()) == ['["[]", false, 100, 10]']


def test_failures_are_not_kept(server, endpoint, ask, error_reply):
    server.answer = lambda body: error_reply(503, "oops")
    store = Kept()
    EndpointReader(endpoint, silent, store=store).read([ask("fine")])
    assert store == {}
