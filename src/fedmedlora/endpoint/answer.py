"""One answer of a chat model: taken out of a completion, kept as text, and what all of them cost."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from fedmedlora.endpoint.settings import Endpoint

# Ended before it was through: at the limit, or by a filter.
_CUT = ("length", "content_filter")


class AnswerStore(Protocol):
    """Where answers are kept, so that a run that was stopped asks and pays for the rest only.

    Answers hold text of notes: whoever hands a store in decides where that lies. Both are called from the
    thread that reads, one at a time.
    """

    def get(self, key: str, /) -> str | None:
        """What was put under ``key``, a sha256 in hexadecimal digits, or None."""

    def put(self, key: str, answer: str, /) -> None:
        """Keep ``answer``, one line of ASCII."""


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """What the model wrote, and the tokens that it was counted as (None: the server does not say).

    ``is_cut``: it ended before it was through, or the model refused; such an answer counts as unparsed.
    Without ``repr``, for the text is a note's.
    """

    text: str
    is_cut: bool
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What reading took. ``num_requests``: different requests, those of ``num_cached`` answered before.

    ``num_failed``: requests without an answer. ``num_retries``: times that one was sent again. Tokens and
    cost are those of all answers, cached ones included, which were paid for once; ``cost`` in
    ``currency``, by the prices of the settings: None where there are none, or where the server did not
    count the tokens of an answer.
    """

    num_requests: int
    num_cached: int
    num_failed: int
    num_retries: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    currency: str


def answer_of(completion: Any) -> Answer | None:
    """The answer in what the server sent, which nobody checked before; None: it is no chat completion."""
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        return None
    message = getattr(choices[0], "message", None)
    if message is None:
        return None
    content, usage = getattr(message, "content", None), getattr(completion, "usage", None)
    has_refused = bool(getattr(message, "refusal", None))
    return Answer(
        text=content if isinstance(content, str) and not has_refused else "",
        is_cut=has_refused or getattr(choices[0], "finish_reason", None) in _CUT,
        prompt_tokens=_count(getattr(usage, "prompt_tokens", None)),
        completion_tokens=_count(getattr(usage, "completion_tokens", None)),
    )


def to_line(answer: Answer) -> str:
    """``answer`` as one line of ASCII."""
    return json.dumps([answer.text, answer.is_cut, answer.prompt_tokens, answer.completion_tokens])


def from_line(line: str) -> Answer | None:
    """The answer that ``to_line`` wrote; None for a line that it did not write, or not to its end."""
    try:
        text, is_cut, prompt_tokens, completion_tokens = json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return None
    counts = (prompt_tokens, completion_tokens)
    if not (isinstance(text, str) and isinstance(is_cut, bool)):
        return None
    if any(count is not None and _count(count) is None for count in counts):
        return None
    return Answer(text, is_cut, *counts)


def usage_of(
    endpoint: Endpoint, answers: Iterable[Answer | None], *, num_cached: int, num_retries: int
) -> Usage:
    """The sum over ``answers``, one of each request; None: a request without one."""
    every = list(answers)
    answered = [answer for answer in every if answer is not None]
    prompt_tokens = sum(answer.prompt_tokens or 0 for answer in answered)
    completion_tokens = sum(answer.completion_tokens or 0 for answer in answered)
    prices = endpoint.price_per_million_input, endpoint.price_per_million_output
    is_counted = not any(a.prompt_tokens is None or a.completion_tokens is None for a in answered)
    cost = (prompt_tokens * prices[0] + completion_tokens * prices[1]) / 1e6
    return Usage(
        num_requests=len(every),
        num_cached=num_cached,
        num_failed=len(every) - len(answered),
        num_retries=num_retries,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost=cost if any(prices) and is_counted else None,
        currency=endpoint.currency,
    )


def _count(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12
    return value if is_count else None
