"""JSON read strictly, and keys of any table, with errors that never show what may be text of a note."""

from __future__ import annotations

import json
from collections import Counter
from difflib import get_close_matches
from typing import Any

from fedmedlora.corpora.members import decode_unmarked


def json_object(line: bytes, where: str) -> dict[str, Any]:
    """The object in ``line``. Raises ``ValueError`` that begins with ``where`` for anything else."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: byte {error.start} of the line is not UTF-8; save the file as UTF-8"
        ) from None
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{where}: not JSON at character {error.pos} ({error.msg}); each line holds one object"
        ) from None
    except RecursionError:
        raise ValueError(f"{where}: nested too deeply to be a note") from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{where}: holds a {type(value).__name__}; each line must hold one JSON object")
    return value


def json_value(content: bytes, where: str) -> Any:
    """What the whole file ``content`` holds. Raises ``ValueError`` that begins with ``where``."""
    try:
        return json.loads(decode_unmarked(content, where))
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}:{error.lineno}: not JSON ({error.msg})") from None
    except RecursionError:
        raise ValueError(f"{where}: nested too deeply for this format") from None
    except ValueError as error:
        if str(error).startswith(where):
            raise
        raise ValueError(f"{where}: holds a number of too many digits") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        times = Counter(key for key, _ in pairs)
        twice = sorted(shown(key) for key, count in times.items() if count > 1)
        raise ValueError(f"an object names the key {twice[0]} twice")
    return found


def kind_of(value: object) -> str:
    """What a misplaced value is, never the value: a string in the wrong place may be note text."""
    if isinstance(value, str):
        return f"a string of {len(value)} characters"
    return repr(value) if isinstance(value, bool | int | float | None) else f"a {type(value).__name__}"


def shown(value: object) -> str:
    """A value for a message. Long strings are cut: a misplaced one might be the text of a note."""
    if value is None:
        return "missing"
    text = repr(value) if isinstance(value, str | int | float | bool) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{type(value).__name__} of {len(text)} characters"


def check_keys(record: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    """Raise ``ValueError`` for a key that is not ``known``, naming the nearest one."""
    for key in record:
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise ValueError(f"{where}: unknown key {shown(key)}{hint or '.'} Known keys: {', '.join(known)}")


def text_value(value: object, key: str, where: str) -> str:
    """``value``, which must be a string of whole characters. Raises ``ValueError`` naming ``key``."""
    if not isinstance(value, str):
        raise ValueError(f"{where}: {key} is {kind_of(value)}; it must be a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: {key} holds half a character (a lone surrogate) at {error.start}"
        ) from None
    return value
