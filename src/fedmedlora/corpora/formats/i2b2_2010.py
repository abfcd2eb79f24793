"""i2b2/VA 2010: clinical notes with concepts, assertions and relations, for holders of its data agreement.

Uzuner, South, Shen, DuVall, 2010 i2b2/VA challenge on concepts, assertions, and relations in clinical text,
JAMIA 18 (2011) 552, doi:10.1136/amiajnl-2011-000203. Files of one note have its name, in any folders:

    NAME.txt   a sentence per line
    NAME.con   c="chest pain" 12:3 12:4||t="problem"
    NAME.ast   c="chest pain" 12:3 12:4||t="problem"||a="absent"
    NAME.rel   c="aspirin" 12:0 12:0||r="TrAP"||c="chest pain" 12:3 12:4

``LINE:TOKEN`` counts lines from 1 and tokens, between white space, from 0. An assertion becomes the attribute
``assertion`` of its concept. Concepts are written in lower case: surfaces are compared without case and white
space. Where a line has several spaces in a row, some files count the empty words between them as tokens;
the surface says which count is meant.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fedmedlora.corpora.formats.brat import SURFACE_DIFFERS
from fedmedlora.corpora.members import decode_unmarked, place_of, read_members
from fedmedlora.corpora.raw import RawAttribute, RawNote, RawRelation, RawSpan

_PLACE = r'c="(.*?)" (\d{1,9}):(\d{1,9}) (\d{1,9}):(\d{1,9})'
_LINES = {
    "con": re.compile(_PLACE + r'\|\|t="([^"]+)"', re.ASCII),
    "ast": re.compile(_PLACE + r'\|\|t="([^"]+)"\|\|a="([^"]+)"', re.ASCII),
    "rel": re.compile(_PLACE + r'\|\|r="([^"]+)"\|\|' + _PLACE, re.ASCII),
}

_MAX_LINE = 20_000  # characters; a real line has some hundred, and the patterns' time grows with the square

_Where = tuple[int, int, int, int]  # line and token of the first and of the last word


def read(source: Path) -> tuple[RawNote, ...]:
    """All notes under ``source``: each ``.txt``, with what ``.con``, ``.ast`` and ``.rel`` of its name say.

    Raises ``ValueError`` naming file and line: a malformed line, a place outside the text, an annotation
    without its text, an assertion or relation of a concept that ``.con`` lacks, two files of one name.
    """
    by_kind: dict[str, dict[str, tuple[str, str, PurePosixPath]]] = {k: {} for k in ("txt", *_LINES)}
    for name, content in read_members(source, tuple(f".{kind}" for kind in by_kind)).items():
        path, file = PurePosixPath(name), place_of(source, name)
        stem, _, kind = path.name.rpartition(".")
        if stem in by_kind[kind]:
            raise ValueError(
                f"{file}: there is another {path.name} under {source}; names say what belongs together"
            )
        by_kind[kind][stem] = (decode_unmarked(content, file), file, path)
    texts = by_kind.pop("txt")
    for files in by_kind.values():
        for stem in sorted(files.keys() - texts.keys()):
            raise ValueError(f"{files[stem][1]}: there is no {stem}.txt under {source}; add the text")
    return tuple(
        _note(stem, text, file, path, {k: files[stem][:2] for k, files in by_kind.items() if stem in files})
        for stem, (text, file, path) in texts.items()
    )


@dataclass(slots=True)
class _Draft:
    text: str
    lines: list[tuple[int, int]]  # offsets of each line
    spans: dict[tuple[_Where, str], RawSpan] = field(default_factory=dict)
    at: dict[_Where, list[tuple[str, str]]] = field(default_factory=dict)  # (label, id)s at a place
    words: dict[tuple[int, str], list[tuple[int, int]]] = field(default_factory=dict)  # offsets, by line
    skipped: Counter[str] = field(default_factory=Counter)
    lost: set[str] = field(default_factory=set)


def _note(
    name: str, text: str, file: str, path: PurePosixPath, files: Mapping[str, tuple[str, str]]
) -> RawNote:
    draft = _Draft(text, [])
    begin = 0
    for line in text.split("\n"):
        draft.lines.append((begin, begin + len(line.removesuffix("\r"))))
        begin += len(line) + 1
    attributes: list[RawAttribute] = []
    relations: list[RawRelation] = []
    for kind in _LINES:  # concepts first: the other two name them
        content, where = files.get(kind, ("", file))
        for number, line in enumerate(content.split("\n"), start=1):
            if not line.strip():
                continue
            match = _LINES[kind].fullmatch(line.strip()) if len(line) <= _MAX_LINE else None
            if match is None:
                raise ValueError(f"{where}:{number}: not a line of a .{kind} file of i2b2 2010")
            here, place = f"{where}:{number}", _place(match, 1)
            if kind == "con":
                _take(match[1], place, match[6], here, number, draft)
            elif kind == "ast":
                whose = _concept(place, here, draft, match[6])
                if whose in draft.lost:
                    draft.skipped["assertion of a concept that was left out"] += 1
                else:
                    attributes.append(RawAttribute("assertion", whose, match[7], number))
            else:
                ends = (_concept(place, here, draft), _concept(_place(match, 7), here, draft))
                relations.append(RawRelation(match[6], *ends, number))
    return RawNote(
        name=name,
        text=text,
        source=files.get("con", ("", file))[1],
        spans=tuple(draft.spans.values()),
        relations=tuple(relations),
        attributes=tuple(attributes),
        folders=path.parts[:-1],
        skipped=draft.skipped,
        lost=frozenset(draft.lost),
    )


def _place(match: re.Match[str], first: int) -> _Where:
    a, b, c, d = (int(match[group]) for group in range(first + 1, first + 5))
    return a, b, c, d


def _take(written: str, place: _Where, label: str, where: str, number: int, draft: _Draft) -> None:
    if (place, label) in draft.spans:
        draft.skipped["same span and type again"] += 1
        return
    new = f"T{number}"
    draft.at.setdefault(place, []).append((label, new))
    tried = [found for count in (_words, _single_spaced) if (found := _offsets(place, count, draft))]
    if not tried:
        raise ValueError(f"{where}: {place[0]}:{place[1]} to {place[2]}:{place[3]} is not in the text")
    for start, end in tried:
        if draft.text[start:end].lower().split() == written.lower().split():
            draft.spans[place, label] = RawSpan(new, label, ((start, end),), number)
            return
    draft.skipped[SURFACE_DIFFERS] += 1
    draft.lost.add(new)


def _words(line: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\S+", line)]


def _single_spaced(line: str) -> list[tuple[int, int]]:
    found, at = [], 0
    for word in line.split(" "):
        found.append((at, at + len(word)))
        at += len(word) + 1
    return found


def _offsets(
    place: _Where, count: Callable[[str], list[tuple[int, int]]], draft: _Draft
) -> tuple[int, int] | None:
    """Where the first word begins and the last one ends, in characters; None outside the text."""
    found = []
    for line, token in (place[:2], place[2:]):
        if not 1 <= line <= len(draft.lines):
            return None
        begin, end = draft.lines[line - 1]
        key = (line, count.__name__)
        if key not in draft.words:
            draft.words[key] = count(draft.text[begin:end])
        words = draft.words[key]
        if token >= len(words):
            return None
        found.append((begin + words[token][0], begin + words[token][1]))
    (start, _), (_, after) = found
    return (start, after) if start < after else None


def _concept(place: _Where, where: str, draft: _Draft, label: str = "") -> str:
    """The id of the concept at ``place``, of type ``label`` ("": any); one that was kept before others."""
    found = [key for own, key in draft.at.get(place, []) if label in ("", own)]
    if not found:
        of_type = " of that type" if label else ""
        raise ValueError(f"{where}: the .con file has no concept{of_type} at {place[0]}:{place[1]}")
    return min(found, key=lambda key: key in draft.lost)
