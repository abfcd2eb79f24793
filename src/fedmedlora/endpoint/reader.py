"""Reads examples with a chat model: what ``measure.Reader`` does with an adapter, over an endpoint.

Both show a model the same instruction and the same input and read what it writes by the same form, so that
their scores can stand in one table.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from typing import Any

from fedmedlora.endpoint.answer import Answer, AnswerStore, Usage, from_line, to_line, usage_of
from fedmedlora.endpoint.connection import Connection, Failure, refuse_without_library
from fedmedlora.endpoint.pace import Pace
from fedmedlora.endpoint.request import FORM, body, key
from fedmedlora.endpoint.settings import Endpoint
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.form import Reading, load_form

Report = Callable[[int, int], None]

# A server that is down would otherwise score as a model that finds nothing.
MAX_FAILURES_IN_A_ROW = 20


class EndpointReader:
    """Reads examples with one chat model; an example that was read before is not read again.

    Examples that make the same request (the same sentence in two notes) share one answer. A request that
    fails for good, a refusal, an answer that was cut, and one that is no JSON count as unparsed.
    """

    def __init__(self, endpoint: Endpoint, report: Report, *, store: AnswerStore | None = None) -> None:
        """``report(num_done, num_total)`` counts examples. ``store``: where answers are kept.

        Raises ``ValueError`` where notes would leave this machine without permission, where the key is
        not in the environment, and without the library. Nothing is sent yet.
        """
        endpoint.refuse_without_permission()
        self._secret = _secret(endpoint)
        refuse_without_library()
        self._endpoint, self._report, self._store = endpoint, report, store
        self._pace = Pace(endpoint.requests_per_minute)
        self._known: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Reading] = {}
        self._answers: dict[str, Answer | None] = {}  # None: it failed for good
        self._num_cached = self._num_retries = 0
        self._failures_in_a_row: list[str] = []
        # What was really read: a known answer counts once.
        self.num_examples = self.num_unparsed = self.num_ungrounded = 0

    @property
    def usage(self) -> Usage:
        """What all reading so far took."""
        return usage_of(
            self._endpoint,
            self._answers.values(),
            num_cached=self._num_cached,
            num_retries=self._num_retries,
        )

    def spent(self) -> dict[str, Any]:
        """``usage`` as ``results.json`` holds it; "" for a currency that nothing was counted in."""
        usage = self.usage
        found = {key: value for key, value in asdict(usage).items() if key != "num_cached"}
        return found | {"currency": usage.currency if usage.cost is not None else ""}

    def read(self, examples: Sequence[Example]) -> list[Reading]:
        """What the answer to each example says.

        Raises ``ValueError`` for what stops every request (the key, the model, a setting that the server
        refuses), for ``MAX_FAILURES_IN_A_ROW`` failures, and for examples of another form than JSON.
        What was read until then is in the store; at most ``parallel_requests`` answers are lost.
        """
        fresh = {e.place: e for e in examples if e.place not in self._known}
        requests: dict[str, dict[str, Any]] = {}
        asking: dict[str, list[Example]] = {}
        for example in fresh.values():
            request = body(self._endpoint, example)
            name = key(self._endpoint, request)
            requests[name] = request
            asking.setdefault(name, []).append(example)
        found: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Reading] = {}
        for name in self._answered(requests):
            found |= {e.place: _reading(e, self._answers[name]) for e in asking[name]}
            self._report(self.num_examples + len(found), self.num_examples + len(fresh))
        self._known |= found
        self.num_examples += len(found)
        self.num_unparsed += sum(not one.complete for one in found.values())
        self.num_ungrounded += sum(one.num_ungrounded for one in found.values())
        return [self._known[e.place] for e in examples]

    def _answered(self, requests: Mapping[str, dict[str, Any]]) -> Iterator[str]:
        """The name of each request, as soon as ``_answers`` holds what came of it."""
        to_ask = []
        for name in requests:
            if name not in self._answers:
                line = None if self._store is None else self._store.get(name)
                answer = None if line is None else from_line(line)
                if answer is None:
                    to_ask.append(name)
                    continue
                self._answers[name] = answer
                self._num_cached += 1
            yield name
        if to_ask:
            yield from self._asked({name: requests[name] for name in to_ask})

    def _asked(self, requests: Mapping[str, dict[str, Any]]) -> Iterator[str]:
        with Connection(self._endpoint, self._secret, self._pace) as connection:
            pool = ThreadPoolExecutor(min(self._endpoint.parallel_requests, len(requests)))
            try:
                named = {pool.submit(connection.ask, request): name for name, request in requests.items()}
                for done in as_completed(named):
                    self._keep(named[done], done.result())
                    yield named[done]
            finally:
                # Not waited for: after an error, what is still under way fails when the connection closes.
                pool.shutdown(wait=False, cancel_futures=True)
                self._num_retries += max(0, connection.num_sent - connection.num_asked)

    def _keep(self, name: str, outcome: Answer | Failure) -> None:
        if isinstance(outcome, Answer):
            self._failures_in_a_row = []
            self._answers[name] = outcome
            if self._store is not None:
                self._store.put(name, to_line(outcome))
            return
        self._answers[name] = None
        self._failures_in_a_row.append(outcome.why)
        if len(self._failures_in_a_row) == MAX_FAILURES_IN_A_ROW:
            kinds = Counter(self._failures_in_a_row).most_common()
            raise ValueError(
                f"{self._endpoint.url}: the last {MAX_FAILURES_IN_A_ROW} requests all failed "
                f"({', '.join(f'{number} x {why}' for why, number in kinds)}); see to the server, or to url, "
                "model, timeout_s and requests_per_minute under [endpoint], and start again"
            )


def _reading(example: Example, answer: Answer | None) -> Reading:
    if answer is None:
        return Reading((), False, 0)
    reading = load_form(FORM).read(example, answer.text)
    return replace(reading, complete=False) if answer.is_cut else reading


def _secret(endpoint: Endpoint) -> str:
    """The key; "" where none is sent. Raises ``ValueError`` where it is not there or cannot be sent."""
    if not endpoint.key_env:
        return ""
    found = os.environ.get(endpoint.key_env, "").strip()
    if not found:
        raise ValueError(
            f"key_env: the environment variable {endpoint.key_env} is not set, or empty; put the key of "
            f"{endpoint.url} into it"
        )
    if not (found.isascii() and found.isprintable()) or " " in found:
        raise ValueError(
            f"key_env: what {endpoint.key_env} holds is no key (a space, a line break or a character beyond "
            "ASCII is in it)"
        )
    return found
