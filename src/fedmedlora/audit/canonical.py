"""JSON in one form: what is hashed and signed is bytes, so one value has one way to be written.

Keys sorted by code point, no spaces, UTF-8, numbers as Python writes them (the shortest form that reads back
as the same float). Near to RFC 8785, https://www.rfc-editor.org/rfc/rfc8785, and equal to it where keys are
ASCII and numbers are whole; it departs in how large and small floats are written.

Reading is strict: bytes that ``canonical`` would not have written are refused, so nothing can be hidden in
spaces, in escapes, in keys that are named twice or in digits that a reader rounds away.
"""

from __future__ import annotations

import json
import math
from typing import Any

LARGEST = 2**53  # up to here every reader of JSON has the same whole numbers


def canonical(value: Any) -> bytes:
    """``value`` as bytes. Raises ``ValueError`` for what has no single form: NaN, infinity, whole numbers
    beyond 2**53, half characters, keys that are no text, and anything that is not JSON."""
    _refuse(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a text holds half a character (a lone surrogate)") from None


def read_canonical(data: bytes) -> Any:
    """What ``canonical`` wrote. Raises ``ValueError``, which never shows the content, for any other bytes."""
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_constant=_no_constant,
            parse_int=_whole,
            object_pairs_hook=_each_once,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON at character {error.pos}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if canonical(value) != data:
        raise ValueError("not written in the one form that is hashed (spaces, escapes, or the order of keys)")
    return value


def _refuse(value: Any) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError("a key is no text")
            _refuse(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _refuse(inner)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a number is NaN or infinite")
    elif isinstance(value, int):  # and so true and false
        if abs(value) > LARGEST:
            raise ValueError("a whole number is beyond 2**53")
    elif not (value is None or isinstance(value, str)):
        raise ValueError(f"a value is of type {type(value).__name__}")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _whole(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError("a whole number is beyond 2**53")
    return int(digits)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a key twice")
    return found
