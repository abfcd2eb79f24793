"""``[endpoint]``: where a chat model answers, what may be sent there, and how it is asked.

Nothing here sends anything, and nothing here holds a key: only the name of the environment variable that
does.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from fedmedlora.settings import Range, reference_table, setting

# A user name, a query or a fragment could hold a secret, and other characters are read differently by
# different programs: then the machine that was checked is not the one that is called.
_URL = re.compile(r"(https?)://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[A-Za-z0-9._/~-]*)?")
# Upper case: a key that was put here by mistake does not look like it, and is not shown.
_VARIABLE = re.compile("[A-Z][A-Z0-9_]{0,63}")

_COUNT = Range(low=0)
_POSITIVE = Range(low=1)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One chat model behind one address that speaks OpenAI's chat completions protocol."""

    url: str = setting(
        'the base address, such as "http://127.0.0.1:8000/v1"; https, or http to this machine itself'
    )
    model: str = setting("the model's name at that address")
    key_env: str = setting(
        "environment variable that holds the key, in upper case; empty: no key is sent", ""
    )
    notes_may_leave: bool = setting(
        "sentences of notes may be sent to another machine, word for word; this machine itself needs no "
        "permission",
        False,
    )
    structured: Literal["json_schema", "json_object", "none"] = setting(
        "what the server holds answers to: json_schema, the types that are asked for; json_object, any JSON; "
        "none, nothing",
        "json_schema",
    )
    temperature: Literal["default"] | float = setting(
        "sampling temperature; default: none is sent, for models that accept their own only",
        0.0,
        within=Range(low=0, high=2),
    )
    seed: Literal["none"] | int = setting(
        "seed for the server's sampling, which few servers promise to keep; none: none is sent",
        1,
        within=_COUNT,
    )
    max_answer_tokens: int = setting(
        "longest answer, what a model thinks before it included; longer ones are cut and count as unparsed",
        2048,
        within=_POSITIVE,
    )
    limit_name: Literal["max_completion_tokens", "max_tokens"] = setting(
        "what the server calls that limit; max_tokens: older servers", "max_completion_tokens"
    )
    timeout_s: float = setting(
        "seconds that the server may be silent before a request is sent again", 120.0,
        within=Range(low=0, open_low=True),
    )  # fmt: skip
    max_retries: int = setting(
        "times that a request is sent again, after no connection, no answer in time or status 408, 409, 429 "
        "or 5xx; a Retry-After of up to two minutes is kept to",
        8,
        within=_COUNT,
    )
    requests_per_minute: float = setting(
        "requests sent a minute, evenly, those sent again included; 0: no limit", 0.0, within=_COUNT
    )
    parallel_requests: int = setting(
        "requests that wait for an answer at the same time", 4, within=Range(low=1, high=256)
    )
    price_per_million_input: float = setting(
        "price of a million tokens that are sent; this and the next 0: no cost is counted", 0.0, within=_COUNT
    )
    price_per_million_output: float = setting("price of a million tokens of answers", 0.0, within=_COUNT)
    currency: str = setting("currency of both prices, such as USD", "USD")

    def __post_init__(self) -> None:
        if not self.is_well_formed():
            raise ValueError(
                "url: not an address to send to (not shown here, for it may hold a key); write "
                "https://HOST/PATH, without user name, query and fragment, such as https://api.example.com/v1"
            )
        if not self.is_local and not self.url.startswith("https://"):
            raise ValueError(
                f"url: {self.url} would carry notes and key unencrypted over the network; use https, or a "
                "server on this machine (http://127.0.0.1:PORT/v1)"
            )
        if not self.model.strip():
            raise ValueError("model: empty; name the model as the server does")
        if self.key_env and not _VARIABLE.fullmatch(self.key_env):
            raise ValueError(
                "key_env: not the name of an environment variable in upper case, such as CHAT_MODEL_KEY (not "
                "shown here, for it may be the key itself, which belongs into the environment and never "
                "into a file)"
            )
        if not re.fullmatch("[A-Za-z]{1,8}", self.currency):
            raise ValueError(f'currency: "{self.currency[:8]}" is none; write a word such as USD or EUR')

    def is_well_formed(self) -> bool:
        """Whether ``url`` is one that all programs read the same way."""
        if not _URL.fullmatch(self.url):
            return False
        try:
            parts = urlsplit(self.url)
            return bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:  # a port above 65535, brackets around no address
            return False

    @property
    def is_local(self) -> bool:
        """Whether ``url`` is this machine itself (a loopback address), so that nothing leaves it."""
        host = urlsplit(self.url).hostname or ""
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:  # a name
            return False

    def refuse_without_permission(self) -> None:
        """Raise ``ValueError`` where notes would leave this machine and may not: what would go where."""
        if not (self.is_local or self.notes_may_leave):
            raise ValueError(
                f"url: {self.url} is another machine. Every sentence of the test notes would be sent there, "
                f"word for word, for {self.model[:80]} to read. If those who answer for the notes allow it, "
                "set notes_may_leave = true under [endpoint]; a server on this machine "
                "(http://127.0.0.1:PORT/v1) needs no permission"
            )


def reference_page() -> str:
    """The table of ``docs/endpoint.md``: every key with its type, default and meaning, as Markdown."""
    return "\n".join(reference_table(Endpoint)) + "\n"
