"""One open connection to an endpoint, by the official ``openai`` client: a request in, an answer out.

The client retries by itself (exponential backoff, Retry-After). What is ours: it sends to the address in the
settings and nowhere else (no redirects, no proxies of the environment), with the headers below and no
others, so that neither ``OPENAI_API_KEY`` nor ``OPENAI_CUSTOM_HEADERS`` or any other of the variables that
the client reads by itself is ever sent.
"""

from __future__ import annotations

import importlib.util
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from fedmedlora.endpoint.answer import Answer, answer_of
from fedmedlora.endpoint.pace import Pace
from fedmedlora.endpoint.settings import Endpoint
from fedmedlora.endpoint.trouble import Refused, reason_to_stop

# An empty key would make the client look for one in the environment; the header that it makes of it is
# not sent.
_NO_KEY = "none"


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without an answer, after all retries. ``why``: never in the server's words."""

    why: str


def refuse_without_library() -> None:
    """Raise ``ValueError`` where the library is not installed, saying what to do."""
    if importlib.util.find_spec("openai") is None:
        raise ValueError(
            "reading with a chat model needs the package openai, which is not installed here: "
            'pip install "fedmedlora[endpoint]"'
        )


class _ClosedError(BaseException):
    """The connection was closed meanwhile. No ``Exception``: the client would send the request again."""


class Connection:
    """Asks one endpoint, from many threads at once; closed at the end of a ``with``.

    ``num_asked``: requests so far. ``num_sent``: times that one went out, retries included.
    """

    def __init__(self, endpoint: Endpoint, key: str, pace: Pace) -> None:
        """``key`` "": none is sent. Every sending waits for its turn at ``pace``."""
        import httpx2
        import openai

        self._endpoint, self._key, self._pace = endpoint, key, pace
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.num_asked = self.num_sent = 0
        self._transport = httpx2.HTTPTransport(
            trust_env=False, limits=httpx2.Limits(max_connections=endpoint.parallel_requests)
        )
        self._client = openai.OpenAI(
            api_key=key or _NO_KEY,
            base_url=endpoint.url,
            # What is left out here is taken from the environment.
            admin_api_key="",
            organization="",
            project="",
            webhook_secret="",
            timeout=endpoint.timeout_s,
            max_retries=endpoint.max_retries,
            http_client=httpx2.Client(
                transport=self._transport,
                trust_env=False,
                follow_redirects=False,
                timeout=endpoint.timeout_s,
                event_hooks={"request": [self._before_sending]},
            ),
        )

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Requests that still wait in other threads, for their turn or to be sent again, stay here: see
        # ``_before_sending``, which the client would not come to if it was closed itself.
        self._closed.set()
        self._transport.close()

    def ask(self, request: dict[str, Any]) -> Answer | Failure:
        """The answer to ``request``, or why there is none.

        Raises ``ValueError`` for what would stop every other request too: the key, the model, the
        address, a setting that the server does not know.
        """
        with self._lock:
            self.num_asked += 1
        try:
            outcome = self._outcome(request)
        finally:
            if self._closed.is_set():  # it was on its way to the server then, and its socket has stayed open
                self._transport.close()
        if not isinstance(outcome, Refused):
            return outcome
        # Raised here and not where the server's words are at hand, so that no traceback holds them.
        reason = reason_to_stop(self._endpoint, request, outcome)
        if reason:
            raise ValueError(reason)
        return Failure(f"status {outcome.status}")

    def _outcome(self, request: dict[str, Any]) -> Answer | Failure | Refused:
        import openai

        try:
            answer = answer_of(self._client.chat.completions.create(**request))
        except openai.APITimeoutError:
            return Failure("no answer in time")
        except openai.APIConnectionError as error:
            return Failure(f"no connection ({type(error.__cause__).__name__})")
        except openai.APIStatusError as error:
            said = [str(part or "") for part in (error.code, error.param, error.message)]
            return Refused(error.status_code, *said)
        except _ClosedError:
            return Failure("the reading has stopped")
        except (openai.APIError, ValueError, RecursionError):  # success, it says, and then no JSON
            answer = None
        return answer or Failure("an answer that is no chat completion")

    def _before_sending(self, sent: Any) -> None:
        """``sent``: the HTTP client's request, about to go out, for the first time or again."""
        self._pace.wait(self._closed.wait)
        if self._closed.is_set():
            raise _ClosedError
        with self._lock:
            self.num_sent += 1
        headers = {
            "Host": sent.url.netloc.decode("ascii"),
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Content-Length": str(len(sent.content)),
            "User-Agent": "fedmedlora",
        }
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        sent.headers.clear()
        sent.headers.update(headers)
