"""Whether something is what a schema's node says: types, ranges, keys. Every error begins with the path."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from fedmedlora.results.nodes import Many, Named, Node, Table, Value

_LARGEST = 2**63  # whole numbers stay below it, so that any reader of JSON can hold them
TOLERANCE = 1e-6  # of ratios and of the sum of weights: they may come from float32


def check(node: Node, found: Any, place: str) -> None:
    """Nothing if ``found`` is what ``node`` says. Raises ValueError that begins with ``place``."""
    if found is None and node.null:
        return
    if isinstance(node, Value):
        if not _fits(node, found):
            refuse(place, found, node.words() + (f", or null ({node.null})" if node.null else ""))
    elif isinstance(node, Many):
        if not isinstance(found, list | tuple):
            refuse(place, found, "a list" + (f", or null ({node.null})" if node.null else ""))
        if node.length and len(found) != node.length:
            refuse(place, found, f"a list of {node.length}")
        for index, item in enumerate(found):
            check(node.item, item, f"{place}[{index}]")
    else:
        if not isinstance(found, Mapping):
            refuse(place, found, "a table" + (f", or null ({node.null})" if node.null else ""))
        _check_keys(node, found, place)


def _check_keys(node: Table | Named, found: Mapping[Any, Any], place: str) -> None:
    for key in found:
        if not isinstance(key, str):
            refuse(place or "results", key, "keys that are text")
    if isinstance(node, Named):
        for key, item in found.items():
            check(node.item, item, f"{place}.{key[:80]}")
        return
    for key in found:
        if key not in node.keys:
            near = difflib.get_close_matches(key, node.keys, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise ValueError(
                f"{_join(place, key[:80])}: unknown key{hint} Known here: {', '.join(node.keys)}"
            )
    for key, item in node.keys.items():
        if key not in found and key in node.optional:
            continue
        if key not in found:
            raise ValueError(f"{_join(place, key)}: missing; every key must be there, null where allowed")
        check(item, found[key], _join(place, key))


def _fits(node: Value, found: Any) -> bool:
    is_whole = isinstance(found, int) and not isinstance(found, bool) and abs(found) < _LARGEST
    is_number = is_whole or (isinstance(found, float) and math.isfinite(found))
    match node.kind:
        case "text":
            return isinstance(found, str) and (not node.choices or found in node.choices)
        case "flag":
            return isinstance(found, bool)
        case "count" | "positive":
            return is_whole and found >= (node.kind == "positive")
        case "number":
            return is_number
        case "seconds":
            return is_number and found >= 0
        case "share":
            return is_number and -TOLERANCE <= found <= 1 + TOLERANCE
        case "settings":
            return isinstance(found, Mapping) and _is_plain(found)


def _is_plain(found: Any) -> bool:
    if isinstance(found, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in found.items())
    if isinstance(found, list | tuple):
        return all(map(_is_plain, found))
    return (
        found is None or isinstance(found, str | int) or (isinstance(found, float) and math.isfinite(found))
    )


def check_unique(names: Iterable[object], place: str, key: str) -> None:
    """Nothing if each of ``names`` occurs once. Raises ValueError naming ``place[index].key``."""
    seen = set()
    for index, name in enumerate(names):
        if name in seen:
            refuse(f"{place}[{index}].{key}", name, "something that occurs once; this is the second")
        seen.add(name)


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def refuse(place: str, found: object, allowed: str) -> NoReturn:
    """Raises ValueError: where, what is there (shortened), and what is allowed."""
    shown = repr(found)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    raise ValueError(f"{place or 'results'}: {shown} is there; allowed: {allowed}")
