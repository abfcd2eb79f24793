"""The JSON of the published implementation of Fed-MedLoRA (https://github.com/Yale-BIDS-Chen-Lab/FL_LLM_Med).

A file is a list of records, or an object with such a list under ``data``; a record is a sentence, in one of
these forms:

    {"tokens": ["No", " ", "fever"], "tags": ["B-negation", "O", "B-problem"], "html": "No <span class=...>"}
    {"input": "No fever", "output": "No <span class=\"problem\">fever</span>", ...}
    {"input": "No <span class=\"problem\">fever</span>", "output": "<span class=\"negation\">No</span> fever"}
    {"input": "No fever", "output": [["fever", "problem"]]}

Where there is marked text, tokens and tags beside it say the same and are not read. In the third form the
output marks the modifiers of what the input marks: with one entity in the input each is linked to it
(relation ``hasAttr``), with several nothing says to which, and that is counted. The fourth form gives no
offsets: surfaces are looked for from left to right. Sentences of one note are not tied together, and those
without an entity were dropped when such files were made.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fedmedlora.corpora.iob_tags import chunks, is_tag
from fedmedlora.corpora.json_lines import json_value, text_value
from fedmedlora.corpora.members import place_of, read_members
from fedmedlora.corpora.raw import RawNote, RawRelation, RawSpan

RELATION = "hasAttr"
NOT_FOUND = "surface is not in the sentence"
_TAG = re.compile(r'<span class="([^"<>]{1,100})">|</span>')  # other "<" are text: they are not escaped


def read(source: Path) -> tuple[RawNote, ...]:
    """All sentences of the ``.json`` files under ``source``, in the order of the files.

    Raises ``ValueError`` naming file and record (from 1) for one of none of the forms above.
    """
    notes: list[RawNote] = []
    for name, content in read_members(source, (".json",)).items():
        file = place_of(source, name)
        found = json_value(content, file)
        records = found.get("data") if isinstance(found, dict) else found
        if not isinstance(records, list):
            raise ValueError(f"{file}: must be a list of records, or an object with such a list under data")
        path = PurePosixPath(name)
        stem = path.name.removesuffix(".json")
        for number, record in enumerate(records, start=1):
            draft = _Draft(f"{file}: record {number}", number)
            _take(record, draft)
            text_value(draft.text, "the text", draft.where)
            notes.append(
                RawNote(
                    name=f"{stem}-{number}",
                    text=draft.text,
                    source=file,
                    spans=tuple(draft.spans),
                    relations=tuple(draft.relations),
                    folders=(*path.parts[:-1], stem),
                    skipped=draft.skipped,
                )
            )
    return tuple(notes)


@dataclass(slots=True)
class _Draft:
    where: str
    number: int
    text: str = ""
    spans: list[RawSpan] = field(default_factory=list)
    relations: list[RawRelation] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


_Found = list[tuple[int, int, str]]  # start, end, label


def _take(record: Any, draft: _Draft) -> None:
    record = record if isinstance(record, dict) else {}
    given, output = record.get("input"), record.get("output")
    if isinstance(given, str) and isinstance(output, list):
        draft.text = given
        _keep(_look_for(output, draft), draft)
    elif isinstance(given, str) and isinstance(output, str):
        draft.text, entities = _marked(given, draft)
        text, found = _marked(output, draft)
        if text != draft.text:
            draft.skipped["output has another text than input"] += len(found) or 1
            found = []
        owners = _keep(entities, draft)
        members = _keep(found, draft)
        if len(owners) == 1:
            draft.relations += [RawRelation(RELATION, owners[0], m, draft.number) for m in members]
        elif owners:
            draft.skipped["modifier beside several marked entities: linked to none"] += len(members)
    elif isinstance(record.get("html"), str):
        draft.text, found = _marked(record["html"], draft)
        _keep(found, draft)
    else:
        _keep(_tagged(record, draft), draft)


def _keep(found: _Found, draft: _Draft) -> list[str]:
    ids = []
    for start, end, label in found:
        draft.spans.append(RawSpan(f"T{len(draft.spans) + 1}", label, ((start, end),), draft.number))
        ids.append(draft.spans[-1].id)
    return ids


def _marked(marked: str, draft: _Draft) -> tuple[str, _Found]:
    """The text without its tags, and what they mark, in the order of their beginnings."""
    text, at = "", 0
    stack: list[tuple[int, str]] = []
    found: _Found = []
    for match in _TAG.finditer(marked):
        text += marked[at : match.start()]
        at = match.end()
        if match[1]:
            stack.append((len(text), match[1]))
        elif not stack:
            raise ValueError(f"{draft.where}: a </span> closes nothing")
        else:
            start, label = stack.pop()
            if start < len(text):
                found.append((start, len(text), label))
            else:
                draft.skipped["span around nothing"] += 1
    if stack:
        raise ValueError(f"{draft.where}: a <span> is not closed")
    return text + marked[at:], sorted(found, key=lambda item: (item[0], -item[1]))


def _look_for(output: list[Any], draft: _Draft) -> _Found:
    found: _Found = []
    taken: set[tuple[int, int, str]] = set()
    begin: dict[tuple[str, str], int] = {}  # where to go on looking for what is not in the order of the text
    at = 0
    for item in output:
        if not (isinstance(item, list) and len(item) == 2 and all(isinstance(x, str) and x for x in item)):
            raise ValueError(f'{draft.where}: output must be a list of ["surface", "type"]')
        surface, label = item
        start = draft.text.find(surface, at)
        if start < 0:  # not in the order of the text, or inside the one before
            start = draft.text.find(surface, begin.get((surface, label), 0))
            while start >= 0 and (start, start + len(surface), label) in taken:
                start = draft.text.find(surface, start + 1)
            begin[surface, label] = start + 1 if start >= 0 else len(draft.text)
        if start < 0:
            draft.skipped[NOT_FOUND] += 1
            continue
        found.append((start, start + len(surface), label))
        taken.add(found[-1])
        at = max(at, start + len(surface))
    return found


def _tagged(record: dict[str, Any], draft: _Draft) -> _Found:
    tokens, tags = record.get("tokens"), record.get("tags")
    if not (
        isinstance(tokens, list)
        and isinstance(tags, list)
        and len(tokens) == len(tags)
        and all(isinstance(token, str) for token in tokens)
        and all(isinstance(tag, str) and is_tag(tag) for tag in tags)
    ):
        raise ValueError(
            f"{draft.where}: needs html, or input and output, or tokens with as many tags (O, B-TYPE, I-TYPE)"
        )
    # White space between words is a token of its own; where there is none, one space is meant.
    joint = "" if any(token.isspace() for token in tokens) else " "
    bounds: list[tuple[int, int]] = []
    for token in tokens:
        draft.text += joint if bounds else ""
        bounds.append((len(draft.text), len(draft.text) + len(token)))
        draft.text += token
    # A tag on the white space between two words of one chunk is often O: it ends nothing.
    words = [i for i, token in enumerate(tokens) if token.strip()]
    for first, after, _ in chunks(tags):
        if not any(tokens[i].strip() for i in range(first, after)):
            draft.skipped["tagged white space"] += 1
    return [
        (bounds[words[first]][0], bounds[words[after - 1]][1], label)
        for first, after, label in chunks([tags[i] for i in words])
    ]
