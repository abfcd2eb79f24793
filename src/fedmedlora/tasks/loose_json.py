"""Read a list of flat objects out of whatever a language model wrote.

Read are the objects of the first list (of the whole text, where there is none) that are whole: ``{``, pairs
of a key and a plain value, ``}``. Words around the list and code fences, single quotes, trailing commas and
white space, quotes inside a text that were not escaped, and a list inside another object do no harm. An
object that is cut off or broken is skipped, and the reading goes on at the next ``{``. Nothing is read as
nested, so nothing can be nested too deep; time is linear in the text, of which the first ``MAX_CHARACTERS``
are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_CHARACTERS = 100_000
MAX_BROKEN = 100  # objects; behind so many the text is no JSON
MAX_STRING = 8000

_SPACE = re.compile(r"\s*+")
_COMMAS = re.compile(r"[\s,]*+")
# A quote inside a text is taken for its end only where JSON could go on behind it.
_STRINGS = {
    quote: re.compile(
        rf"{quote}((?:[^{quote}\\]|\\.|{quote}(?!\s{{0,9}}[,:}}\]])){{0,{MAX_STRING}}}+){quote}", re.DOTALL
    )
    for quote in ("\"", "'")
}  # fmt: skip
_WORD = re.compile(r"[^\s\"',:{}\[\]]{1,40}")
_NUMBER = re.compile("[1-9][0-9]{0,5}")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


@dataclass(frozen=True, slots=True)
class Item:
    """One object. ``nth`` is at least 1; None where the object has none that can be read."""

    type: str
    text: str
    nth: int | None = None


def read_items(text: str) -> tuple[tuple[Item, ...], bool]:
    """The objects with a type and a text, and whether nothing was lost.

    Nothing was lost: there is a list, it ends, and between its ends everything was read.
    """
    complete = len(text) <= MAX_CHARACTERS
    text = text[:MAX_CHARACTERS]
    found: list[Item] = []
    num_broken = 0
    start = text.find("[")
    at = start + 1
    while num_broken <= MAX_BROKEN:
        at = _end(_COMMAS, text, at)
        if start >= 0 and text.startswith("]", at):
            return tuple(found), complete and num_broken == 0
        pairs, after = _object(text, at)
        item, is_whole = _item(pairs)
        if item is not None:
            found.append(item)
            at = after
        if not is_whole:
            num_broken += 1
        if item is None:
            at = text.find("{", at + 1)
            if at < 0:
                break
    return tuple(found), False


def _item(pairs: dict[str, str] | None) -> tuple[Item | None, bool]:
    """The item of an object, and whether all of the item could be read."""
    if pairs is None or "type" not in pairs or "text" not in pairs:
        return None, False
    nth = pairs.get("nth")
    number = int(nth) if nth is not None and _NUMBER.fullmatch(nth) else None
    return Item(pairs["type"], pairs["text"], number), (nth is None) == (number is None)


def _object(text: str, at: int) -> tuple[dict[str, str] | None, int]:
    """The pairs of the flat object at ``at`` and the place behind it; None where there is none."""
    if not text.startswith("{", at):
        return None, at
    pairs: dict[str, str] = {}
    at = _end(_COMMAS, text, at + 1)
    while not text.startswith("}", at):
        key, at = _value(text, at)
        at = _end(_SPACE, text, at)
        if key is None or not text.startswith(":", at):
            return None, at
        value, at = _value(text, _end(_SPACE, text, at + 1))
        if value is None:
            return None, at
        pairs[key] = value
        behind = _end(_COMMAS, text, at)
        if not text.startswith("}", behind) and "," not in text[at:behind]:
            return None, at
        at = behind
    return pairs, at + 1


def _value(text: str, at: int) -> tuple[str | None, int]:
    """The string or bare word at ``at``, and the place behind it."""
    pattern = _STRINGS.get(text[at : at + 1])
    match = (pattern or _WORD).match(text, at)
    if match is None:
        return None, at
    return (_unescaped(match[1]) if pattern else match[0]), match.end()


def _unescaped(content: str) -> str:
    if "\\" not in content:
        return content

    def plain(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPED.get(code, code)

    # Characters beyond the first 65,536 may be written as two halves.
    return _ESCAPE.sub(plain, content).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    assert match is not None, "it matches nothing too"
    return match.end()
