"""A TOML table to a frozen dataclass: every key checked, every unknown key refused with the nearest one.

The dataclass is the description. Its type hints say what a value may be, ``setting(...)`` adds the
meaning and the range, and ``reference`` turns both into the table that ``docs/study-file.md`` shows, so
that code and page cannot disagree.

Type hints understood: ``str``, ``int``, ``float``, ``bool``, ``Literal``, ``tuple[X, ...]`` of those,
``dict`` (left to the caller), a union of them, another dataclass, a dataclass or None (a table that may be
missing), and ``tuple[dataclass, ...]``. A field
that is neither a ``setting`` nor a table is no key.
"""

from __future__ import annotations

import difflib
import math
import sys
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Range:
    """Allowed numbers: from ``low`` to ``high``; an open end excludes the number itself."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Whether ``value`` lies inside."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def words(self) -> str:
        """``"at least 1"``, ``"above 0 and below 1"``, or "" where anything goes."""
        parts = []
        if self.low > -math.inf:
            parts.append(f"{'above' if self.open_low else 'at least'} {self.low:.15g}")
        if self.high < math.inf:
            parts.append(f"{'below' if self.open_high else 'at most'} {self.high:.15g}")
        return " and ".join(parts)


SEEDS = Range(low=0, high=2**31 - 1)
_MOST = 2**53  # TOML's and JSON's whole numbers have no bound; up to here they are exact as a float, too


def setting(meaning: str, default: Any = MISSING, *, within: Range | None = None) -> Any:
    """A dataclass field: its ``meaning`` in one sentence, its default (left out: required), its range."""
    metadata = {"meaning": meaning, "within": within or Range()}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


def read_table(
    cls: type[T], table: Mapping[str, Any], place: str, around: Mapping[str, Any] | None = None
) -> T:
    """``table`` as a ``cls``. ``place`` begins every message, such as ``"study.toml: [training]"``.

    ``around``: fields of ``cls`` that are no keys of the table, with their values.

    Raises ValueError for an unknown, missing, mistyped or out-of-range key, and passes on what the
    dataclass itself refuses, with the place in front.
    """
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cast(Any, cls)) if "meaning" in f.metadata or _is_table(hints[f.name])}
    for key in table:
        if key not in known:
            raise ValueError(
                f"{place} {key}: unknown key{nearest(key, known)}; known keys: {', '.join(known)}"
            )
    values = {}
    for name, each in known.items():
        if name in table:
            values[name] = _value(table[name], hints[name], each, place)
        elif each.default is MISSING and each.default_factory is MISSING:
            raise ValueError(f"{place} {name}: missing; it is {_meaning(each)}")
    try:
        return cls(**values, **(around or {}))
    except ValueError as error:
        raise ValueError(f"{place} {error}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ``ValueError`` for what is not there, not UTF-8 or not TOML."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except IsADirectoryError as error:
        raise ValueError(f"{path}: is a folder; name the TOML file in it") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path.name}: not TOML: {error}") from error


def nearest(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """``"; did you mean x?"`` for the nearest known word, or "" when none is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def reference_table(cls: type) -> list[str]:
    """``reference(cls)`` as lines of a Markdown table."""
    rows = reference(cls)
    return [
        "| key | type | default | meaning |",
        "|---|---|---|---|",
        *(f"| `{key}` | {kind} | `{default}` | {meaning} |" for key, kind, default, meaning in rows),
    ]


def reference(cls: type) -> list[tuple[str, str, str, str]]:
    """(key, type, default, meaning) of every key of ``cls`` that is not a table of its own."""
    hints = get_type_hints(cls)
    rows = []
    for each in fields(cls):
        if "meaning" not in each.metadata:
            continue
        words = type_words(hints[each.name])
        limits = each.metadata.get("within", Range()).words()
        default = "required" if each.default is MISSING else _toml(each.default)
        rows.append((each.name, f"{words}, {limits}" if limits else words, default, _meaning(each)))
    return rows


def type_words(hint: Any) -> str:
    """A type hint in words: ``"number"``, ``'"auto" or "float32"'``, ``"list of text"``."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(f'"{choice}"' for choice in args)
    if origin is tuple:
        return f"list of {type_words(args[0])}"
    if origin in (Union, types.UnionType):
        return " or ".join(type_words(arg) for arg in args)
    if origin is dict:
        return "table"
    words = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return words[hint]


def _value(value: Any, hint: Any, each: Field[Any], place: str) -> Any:
    here = f"{place} {each.name}"
    hint = _without_none(hint)
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise ValueError(f"{here}: write it as a table, [{each.name}]")
        return read_table(cast(type, hint), value, f"{place} [{each.name}]")
    if _is_table(hint) and get_origin(hint) is tuple:
        return _tables(value, get_args(hint)[0], each.name, place)
    if get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{here}: write it as a table, [{each.name}.NAME]")
        return value
    found = _match(value, hint)
    if found is None:
        near = nearest(value, _choices(hint)) if isinstance(value, str) else ""
        raise ValueError(f"{here}: {_toml(value)} is not allowed{near}; it must be {type_words(hint)}")
    for number in found if isinstance(found, tuple) else (found,):
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            within: Range = each.metadata["within"]
            if not within.holds(number):
                raise ValueError(f"{here}: {_toml(value)} is out of range; it must be {within.words()}")
    return found


def _tables(value: Any, cls: type, name: str, place: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError(f"{place} {name}: write each as a table of its own, [[{name}]]")
    found: list[Any] = []
    for number, one in enumerate(value, start=1):
        label = f" ({one['name'][:80]})" if isinstance(one.get("name"), str) else ""
        found.append(read_table(cls, one, f"{place} [[{name}]] number {number}{label}"))
    return tuple(found)


def _match(value: Any, hint: Any) -> Any:
    """``value`` as ``hint`` wants it, or None (TOML has no null, so None is never a value)."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value if isinstance(value, str) and value in args else None
    if origin is tuple:
        if not isinstance(value, list):
            return None
        items: tuple[Any, ...] = tuple(_match(one, args[0]) for one in value)
        return None if None in items else items
    if origin in (Union, types.UnionType):
        return next((found for arg in args if (found := _match(value, arg)) is not None), None)
    if hint is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(value) if number and abs(value) <= sys.float_info.max else None
    if hint is int:
        number = isinstance(value, int) and not isinstance(value, bool)
        return value if number and abs(value) <= _MOST else None
    return value if isinstance(value, hint) else None


def _choices(hint: Any) -> list[str]:
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [choice for arg in get_args(hint) if arg is not Ellipsis for choice in _choices(arg)]


def _without_none(hint: Any) -> Any:
    """Of "a table or nothing" the table: TOML has no null, so a table that is there is one."""
    args = get_args(hint)
    return args[0] if len(args) == 2 and args[1] is type(None) else hint


def _is_table(hint: Any) -> bool:
    hint = _without_none(hint)
    if get_origin(hint) is tuple:
        return is_dataclass(get_args(hint)[0])
    return is_dataclass(hint) or get_origin(hint) is dict


def _meaning(each: Field[Any]) -> str:
    return str(each.metadata["meaning"])


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value[:80]}"'
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, (list, tuple)):  # what came from anywhere may be long, and lists in lists in lists
        shown = ["[...]" if isinstance(one, (list, tuple)) else _toml(one) for one in value[:20]]
        return f"[{', '.join(shown)}{', ...' if len(value) > 20 else ''}]"
    return str(value)[:80]
