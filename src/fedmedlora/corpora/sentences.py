"""Sentences of a note, by its text alone.

A sentence ends at a line end, and at a full stop, question or exclamation mark that white space and then
a capital, a digit or a bracket follow; not after an abbreviation ("Dr.", "p.o."), an initial, or the
number of a list item (at the beginning of a line or of a sentence). What is longer than
``MAX_CHARACTERS`` is cut into windows. Training passes the gold spans as ``keep`` so that none is cut;
extraction has none to pass, and both see the same segments wherever no span crosses a boundary.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable

SEGMENTATION_VERSION = 1  # raise it with any change of the result; saved adapters name it
MAX_CHARACTERS = 600  # of one segment; only a longer `keep` range makes a longer one

_LINE_END = re.compile(r"\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")
_STOP = re.compile(r"[.?!][\"'”’)\]]*(\s+)")
_OPENING = "([{<\"'“‘"
_LIST_NUMBER = re.compile(r"(?:\A|[.?!;:])\s*[(#]?\d{1,2}\Z")
_WORD_BEFORE = re.compile(r"[^\W_][\w.'-]*\Z")
# Words that a stop does not end a sentence after, whatever follows ...
_ABBREVIATIONS = frozenset(
    {
        *("dr", "mr", "mrs", "ms", "prof", "st", "jr", "sr", "vs", "eg", "ie", "cf", "al", "etc", "approx"),
        *(
            "ca",
            "resp",
            "incl",
            "excl",
            "esp",
            "dept",
            "hosp",
            "pt",
            "pts",
            "hx",
            "dx",
            "rx",
            "tx",
            "sx",
            "fx",
        ),
        *("yo", "wt", "ht", "temp", "dob", "neg", "pos"),
    }
)
# ... and words that are abbreviations only before a number.
_BEFORE_NUMBER = frozenset(
    {
        *("no", "nos", "fig", "figs", "ref", "refs", "vol", "pp", "sec", "ch", "tab", "eq"),
        *("max", "min", "avg"),
    }
)
_DOTTED = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]\Z")  # p.o, q.i.d, e.g


def sentences(text: str, keep: Iterable[tuple[int, int]] = ()) -> tuple[tuple[int, int], ...]:
    """Segments of ``text``: ``[start, end)`` in characters, ascending, disjoint, without outer white space.

    They cover every character that is not white space. No segment ends inside a range of ``keep``:
    segments are merged instead. A segment is longer than ``MAX_CHARACTERS`` only where ranges of ``keep``
    leave no place to cut it.
    """
    closed = _union(text, keep)
    starts = [start for start, _ in closed]

    def free(cut: int) -> bool:
        at = bisect_right(starts, cut - 1) - 1  # the last range that starts before the cut
        return at < 0 or closed[at][1] <= cut

    segments: list[tuple[int, int]] = []
    begin = 0
    for cut in [*(c for c in _cuts(text) if free(c)), len(text)]:
        start, end = _trim(text, begin, cut)
        while end - start > MAX_CHARACTERS:
            middle = _window(text, start, end, closed, free)
            if middle >= end:
                break
            segments.append(_trim(text, start, middle))
            start, end = _trim(text, middle, end)
        if start < end:
            segments.append((start, end))
        begin = cut
    return tuple(segments)


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _union(text: str, keep: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges without outer white space, those that share characters as one; ascending."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(_trim(text, max(s, 0), min(e, len(text))) for s, e in keep):
        if start >= end:
            continue
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _cuts(text: str) -> list[int]:
    """Positions where a sentence ends by the rule, ascending."""
    found = {match.end() for match in _LINE_END.finditer(text)}
    for match in _STOP.finditer(text):
        after = match.end()
        if after < len(text) and _begins(text[after]) and not _abbreviates(text, match.start(), after):
            found.add(match.start(1))
    return sorted(found)


def _begins(character: str) -> bool:
    return character.isupper() or character.isdigit() or character in _OPENING


def _abbreviates(text: str, stop: int, after: int) -> bool:
    """Whether the stop at ``stop``, before the word at ``after``, ends an abbreviation and no sentence."""
    if text[stop] != ".":
        return False
    line = max(text.rfind("\n", 0, stop), text.rfind("\r", 0, stop)) + 1
    near = max(line, stop - 8)
    if _LIST_NUMBER.search(text[near:stop] if near == line else f"x{text[near:stop]}"):
        return True
    match = _WORD_BEFORE.search(text, max(line, stop - 20), stop)
    if match is None:
        return False
    word = match[0].lower()
    initial = len(word) == 1 and match[0].isupper()
    if initial or word in _ABBREVIATIONS or _DOTTED.match(word):
        return True
    return text[after].isdigit() and word in _BEFORE_NUMBER


def _window(
    text: str, start: int, end: int, closed: list[tuple[int, int]], free: Callable[[int], bool]
) -> int:
    """Where to cut a segment that is too long: as late as fits, best after ; then , then white space."""
    limit = start + MAX_CHARACTERS
    half = start + MAX_CHARACTERS // 2
    for low in (half, start):
        for marks in (";", ",", ""):
            for cut in range(min(limit, end), low, -1):
                after = text[cut - 1]
                if (
                    cut < end
                    and text[cut].isspace()
                    and not after.isspace()
                    and (not marks or after in marks)
                    and free(cut)
                ):
                    return cut
    if free(limit):
        return limit
    # A keep range covers the limit: cut before it, or after it where it begins the segment.
    covering = next((s, e) for s, e in closed if s < limit < e)
    return covering[0] if covering[0] > start else covering[1]
