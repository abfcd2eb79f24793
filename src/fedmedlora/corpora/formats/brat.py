"""BRAT standoff: ``.txt`` with ``.ann`` beside it, in a folder, a zip, a tar.gz, or gzipped one by one.

Stenetorp et al., brat, EACL 2012; https://brat.nlplab.org/standoff.html. Offsets are characters of the
text as it is: a carriage return and a byte order mark count. Read are T (with fragments ``0 5;8 12``), R,
E with roles, A and M, and ``*`` groups; ``#`` comments and N lines carry no annotation and are counted.

Where real files depart from the page, the reader follows the text: a surface that equals the text except
for white space keeps its span (without the white space at its ends that the surface does not have), a
surface with a raw line end in it runs over the next line, and fragments may come in any order. A surface
that differs in anything else is counted and left out; an offset past the text is an error.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath

from fedmedlora.corpora.members import decode, note_name, place_of, read_members
from fedmedlora.corpora.note import Fragment, Span
from fedmedlora.corpora.raw import RawAttribute, RawEvent, RawNote, RawRelation, RawSpan

SURFACE_DIFFERS = "surface differs from the text at its offsets"
_ANNOTATION = re.compile(r"(?:[TREAMN]\d\S*|\*|#\S*)\t")
_SPAN = re.compile(r"(\S+) (\d+ \d+(?:;\d+ \d+)*)", re.ASCII)
_MAX_DIGITS = 18  # an offset with more is no offset (and Python refuses thousands of digits)


def read(source: Path, *, needs_text: bool = True) -> tuple[RawNote, ...]:
    """All notes under ``source``, in the order of their names; a ``.txt`` alone is a note with no annotation.

    ``needs_text``: False takes an ``.ann`` without ``.txt`` too, as a note of no text whose offsets nobody
    can check (predictions travel like that). Raises ``ValueError`` naming file, line and value: an ``.ann``
    without ``.txt``, text that is not UTF-8, a malformed line, an offset past the text, an id twice, a
    relation to nothing.
    """
    files = read_members(source, (".txt", ".ann"))
    beside = source.with_suffix(".ann")
    if source.suffix == ".txt" and source.is_file() and beside.is_file():
        files |= read_members(beside, (".ann",))
    notes = []
    for name in files:
        stem = name.rpartition(".")[0]
        file = place_of(source, name)
        if name.endswith(".ann") and f"{stem}.txt" not in files:
            if needs_text:
                raise ValueError(
                    f"{file}: there is no {PurePosixPath(stem).name}.txt beside it; add the text"
                )
            annotation = decode(files[name], file)
            notes.append(_note(stem, None, annotation.removeprefix("\ufeff"), file))
        if name.endswith(".txt"):
            text = decode(files[name], file)
            annotation = decode(files.get(f"{stem}.ann", b""), file.removesuffix(".txt") + ".ann")
            notes.append(_note(stem, text, annotation.removeprefix("\ufeff"), file))
    return tuple(notes)


@dataclass(slots=True)
class _Lines:
    """What is gathered from one ``.ann`` file. ``resolve``: event id -> its trigger's id.

    ``text``: None where it is not there to be compared with.
    """

    file: str
    text: str | None
    spans: dict[str, RawSpan] = field(default_factory=dict)
    resolve: dict[str, str] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    skipped: Counter[str] = field(default_factory=Counter)
    others: list[tuple[int, str]] = field(default_factory=list)  # R, E, A, M, * lines: (number, line)


def _note(stem: str, text: str | None, annotation: str, file: str) -> RawNote:
    found = _Lines(file.removesuffix(".txt").removesuffix(".ann") + ".ann", text)
    _first_pass(annotation.split("\n"), found)
    relations: list[RawRelation] = []
    events: list[RawEvent] = []
    attributes: list[RawAttribute] = []
    groups: list[tuple[str, tuple[str, ...]]] = []
    for number, line in found.others:
        where = f"{found.file}:{number}"
        fields = line.split("\t")
        words = fields[1].split() if len(fields) > 1 else []
        kind = line[0]
        if not words:
            raise ValueError(f"{where}: the {kind} line is empty after its id")
        label = words[0]
        if kind == "R":
            relations.append(_relation(label, words[1:], number, where, found))
        elif kind == "E":
            events.append(_event(words, number, where, found))
        elif kind == "*":
            groups.append((label, tuple(_target(i, where, found) for i in words[1:])))
        else:
            if len(words) < 2:
                raise ValueError(f"{where}: attribute {label!r} names no target; write id TAB name target")
            attributes.append(
                RawAttribute(label, _target(words[1], where, found), " ".join(words[2:]), number)
            )
    path = PurePosixPath(stem)
    return RawNote(
        name=note_name(path.name),
        text=text or "",
        source=found.file,
        spans=tuple(found.spans.values()),
        relations=tuple(relations),
        events=tuple(events),
        attributes=tuple(attributes),
        groups=tuple(groups),
        folders=path.parts[:-1],
        skipped=found.skipped,
        lost=frozenset(found.lost),
    )


def _first_pass(lines: list[str], found: _Lines) -> None:
    """Take the T lines and the ids of events; keep the other lines for when all ids are known."""
    at = 0
    seen: set[str] = set()
    while at < len(lines):
        number, line = at + 1, lines[at].removesuffix("\r")
        where = f"{found.file}:{number}"
        at += 1
        if not line.strip():
            continue
        if not _ANNOTATION.match(line):
            raise ValueError(
                f"{where}: not a BRAT line; a line begins with T, R, E, A, M or N and a "
                "number, or with * or #, and then a tab"
            )
        key = line.split("\t", 1)[0]
        if key[0] not in "*#":
            if key in seen:
                raise ValueError(f"{where}: id {key!r} is used twice in this file")
            seen.add(key)
        if key[0] == "T":
            at = _text_bound(lines, at, found)
        elif key[0] == "E":
            trigger = line.split("\t")[1].split(" ")[0].rpartition(":")[2]
            found.resolve[key] = trigger
            found.others.append((number, line))
        elif key[0] in "#N":
            found.skipped["comment (# line)" if key[0] == "#" else "normalization (N line)"] += 1
        else:
            found.others.append((number, line))


def _text_bound(lines: list[str], at: int, found: _Lines) -> int:
    """Read the T line before ``at``; returns where to go on (later when the surface runs over line ends)."""
    number = at
    where = f"{found.file}:{number}"
    fields = lines[at - 1].removesuffix("\r").split("\t", 2)
    match = _SPAN.fullmatch(fields[1]) if len(fields) == 3 else None
    if match is None:
        raise ValueError(
            f"{where}: {fields[0]} is malformed; write T1 TAB label start end TAB text of the span"
        )
    key, label, written = fields[0], match[1], fields[2]
    num_characters = len(found.text) if found.text is not None else None
    fragments = _fragments(match[2], f"{where}: {key} {label}", num_characters)
    if any(start == end for start, end in fragments):
        return _lose(key, "empty span", found, at)
    ordered = tuple(sorted(fragments))
    if any(a[1] > b[0] for a, b in pairwise(ordered)):
        return _lose(key, "fragments overlap", found, at)
    if found.text is None:
        found.spans[key] = RawSpan(key, label, ordered, number)
        while _runs_on(lines, at):
            at += 1
        return at
    expected = " ".join(found.text[start:end] for start, end in fragments)
    while not _same(written, expected) and _fold(expected).startswith(_fold(written)) and _runs_on(lines, at):
        written += "\n" + lines[at].removesuffix("\r")
        at += 1
    if not _same(written, expected):
        return _lose(key, SURFACE_DIFFERS, found, at)
    if len(written) != len(expected):
        ordered = _trimmed(found.text, ordered)
    found.spans[key] = RawSpan(key, label, ordered, number)
    return at


def _runs_on(lines: list[str], at: int) -> bool:
    """Whether the line there can belong to the surface before it, which holds a raw line end."""
    return at < len(lines) and bool(lines[at].strip()) and not _ANNOTATION.match(lines[at])


def _lose(key: str, reason: str, found: _Lines, at: int) -> int:
    found.lost.add(key)
    found.skipped[reason] += 1
    return at


def _fragments(written: str, where: str, num_characters: int | None) -> list[Fragment]:
    fragments = []
    for pair in written.split(";"):
        start_digits, end_digits = pair.split(" ")
        is_absurd = max(len(start_digits), len(end_digits)) > _MAX_DIGITS
        if is_absurd or (num_characters is not None and int(end_digits) > num_characters):
            length = "fewer" if num_characters is None else num_characters
            raise ValueError(
                f"{where}: offset {end_digits[:_MAX_DIGITS]} is past the text, which has "
                f"{length} characters (BRAT counts characters, not bytes, and every line end as it is in "
                "the file)"
            )
        if int(start_digits) > int(end_digits):
            raise ValueError(f"{where}: span {pair!r} ends before it starts")
        fragments.append((int(start_digits), int(end_digits)))
    return fragments


def _fold(surface: str) -> str:
    return " ".join(surface.split())


def _same(written: str, expected: str) -> bool:
    # A field after the surface (a stray tab and what follows) is not part of it.
    return _fold(expected) in (_fold(written), _fold(written.split("\t")[0]))


def _trimmed(text: str, span: Span) -> Span:
    """``span`` without white space at its two ends."""
    fragments = list(span)
    while fragments and not text[slice(*fragments[0])].strip():
        fragments.pop(0)
    while fragments and not text[slice(*fragments[-1])].strip():
        fragments.pop()
    if not fragments:
        return span
    start, end = fragments[0]
    fragments[0] = (end - len(text[start:end].lstrip()), end)
    start, end = fragments[-1]
    fragments[-1] = (start, start + len(text[start:end].rstrip()))
    return tuple(fragments)


def _target(key: str, where: str, found: _Lines) -> str:
    """The span id that ``key`` stands for: itself, or the trigger of an event."""
    target = found.resolve.get(key, key)
    if target not in found.spans and target not in found.lost:
        if key[:1] in "RAM" and key[1:].isdigit():  # a relation or attribute may be annotated itself
            return key
        raise ValueError(f"{where}: {key!r} is not defined in this file")
    return target


def _relation(label: str, words: list[str], number: int, where: str, found: _Lines) -> RawRelation:
    arguments = [tuple(word.split(":", 1)) for word in words]
    if len(arguments) != 2 or any(len(a) != 2 for a in arguments):
        raise ValueError(f"{where}: relation {label!r} must have two arguments, such as Arg1:T1 Arg2:T2")
    if arguments[0][0] == "Arg2":
        arguments.reverse()
    source, target = (_target(a[1], where, found) for a in arguments)
    return RawRelation(label, source, target, number)


def _event(words: list[str], number: int, where: str, found: _Lines) -> RawEvent:
    if any(":" not in word for word in words):
        raise ValueError(f"{where}: an event is label:trigger and then role:id for each argument")
    (label, trigger), *arguments = [word.split(":", 1) for word in words]
    trigger = _target(trigger, where, found)
    names = {role for role, _ in arguments}
    roles = []
    for role, key in arguments:
        plain = role.rstrip("0123456789")  # BRAT numbers a role that repeats: Arg, Arg2, Arg3
        roles.append((plain if plain in names else role, _target(key, where, found)))
    return RawEvent(label, trigger, tuple(roles), number)
