"""PHEE's JSON lines: one sentence per line, with drug events and their arguments.

Sun et al., PHEE, EMNLP 2022, arXiv:2210.12560; https://github.com/ZhaoyueSun/PHEE. An argument has
``text`` and ``start``, lists of lists: the outer list holds mentions, the inner one the parts of a
discontinuous mention. Arguments nest (``Treatment.Drug``); a ``Combination`` is a list of events inside a
Treatment. A span is labelled by its path ("Treatment.Dosage", "Combination.Drug", "Effect"), and an event
lists (path, span) as roles. A note is one sentence; its ``group`` is the abstract, the id before "_".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from fedmedlora.corpora.members import decode_unmarked, read_members
from fedmedlora.corpora.note import Span, surface
from fedmedlora.corpora.raw import RawEvent, RawNote, RawSpan

_PLAIN_KEYS = frozenset({"text", "start", "entity_id", "event_id", "event_type", "value"})


def read(source: Path) -> tuple[RawNote, ...]:
    """All sentences of the ``.json`` (or ``.jsonl``, ``.gz``) files under ``source``.

    Raises ``ValueError`` naming file and line on anything that is not PHEE, and on an offset past the text.
    """
    files = read_members(source, (".json", ".jsonl"))
    if not files:
        raise ValueError(f"{source}: holds no .json file; PHEE is train.json, dev.json and test.json")
    return tuple(note for name, content in files.items() for note in _file(source, name, content))


def _file(source: Path, name: str, content: bytes) -> Iterator[RawNote]:
    file = f"{source}" if source.name == name else f"{source}/{name}"
    path = PurePosixPath(name)
    folders = (*path.parts[:-1], path.name.split(".")[0])
    text = decode_unmarked(content, file)
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _sentence(line, file, number, folders)


@dataclass(slots=True)
class _Found:
    """Spans by (label, span): a mention that several events share is one span."""

    text: str
    where: str
    line: int
    ids: dict[tuple[str, Span], str] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, label: str, span: Span) -> str:
        return self.ids.setdefault((label, span), f"T{len(self.ids) + 1}")


def _sentence(line: str, file: str, number: int, folders: tuple[str, ...]) -> RawNote:
    where = f"{file}:{number}"
    try:
        record = json.loads(line)
        name, text = str(record["id"]), str(record["context"])
        events = [event for group in record["annotations"] for event in group["events"]]
        found = _Found(text, where, number)
        raw_events = tuple(_event(event, found) for event in events)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON at character {error.pos} ({error.msg})") from None
    except (KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(
            f"{where}: not a PHEE record; it needs id, context and annotations[].events[] with "
            "text and start lists"
        ) from None
    spans = tuple(RawSpan(i, label, span, number) for (label, span), i in found.ids.items())
    return RawNote(
        name=name,
        text=text,
        source=file,
        spans=spans,
        events=raw_events,
        folders=folders,
        group=name.split("_")[0] if "_" in name else "",
        skipped=found.skipped,
    )


def _event(event: dict[str, Any], found: _Found) -> RawEvent:
    roles = tuple(_arguments(event, "", found))
    trigger = next((i for role, i in roles if role == "Trigger"), "")
    return RawEvent(str(event["event_type"]), trigger, roles, found.line)


def _arguments(node: dict[str, Any], prefix: str, found: _Found) -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if key in _PLAIN_KEYS:
            continue
        if isinstance(value, list):  # Combination: events inside a Treatment
            for part in value:
                yield from _arguments(part, f"{key}.", found)
            continue
        label = prefix + key
        for span in _spans(value, label, found):
            yield label, found.add(label, span)
        yield from _arguments(value, f"{label}.", found)


def _spans(argument: dict[str, Any], label: str, found: _Found) -> Iterator[Span]:
    if "text" not in argument and "start" not in argument:
        return
    mentions, offsets = argument["text"], argument["start"]
    if [len(parts) for parts in mentions] != [len(starts) for starts in offsets]:
        raise ValueError(f"{found.where}: {label} has text and start lists of different lengths")
    for parts, starts in zip(mentions, offsets, strict=True):
        fragments = [(start, start + len(part)) for part, start in zip(parts, starts, strict=True)]
        for start, end in fragments:
            if not 0 <= start < end <= len(found.text):
                raise ValueError(
                    f"{found.where}: {label} has offsets {start} to {end}; the sentence has "
                    f"{len(found.text)} characters"
                )
        span = tuple(sorted(fragments))
        if surface(found.text, tuple(fragments)) != " ".join(parts):
            found.skipped["surface differs from the text at its offsets"] += 1
        elif any(a[1] > b[0] for a, b in pairwise(span)):
            found.skipped["fragments overlap"] += 1
        else:
            yield span
