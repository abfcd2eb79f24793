"""Instruction data on disk: prompts and the responses to them, as JSON lines.

The first line is the header, every further line one record:

    {"format": "fedmedlora-instructions", "version": 1, "score": "exact_match", "name": "", ...}
    {"id": "q1", "instruction": "", "prompt": "...", "response": "yes", "choices": [], "group": ""}

``instruction`` and ``prompt`` are one message, a line end between them; a text that many records share
belongs into ``instruction``, where it is computed once. ``score``: how an answer is held against the
response, one of ``SCORES``; for "choice" every record names its ``choices``, and the response is one of them.
``id`` is the line's number where it is absent; ``group``: what must stay on one side of a split.

A record is held as a ``Note`` whose text is the message and whose ``meta`` has the rest: so what draws
samples, keeps groups and copies together and refuses overlaps is the same for notes and for instruction
data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmedlora.corpora.json_lines import check_keys, json_object, kind_of, shown, text_value
from fedmedlora.corpora.jsonl import NoteSet
from fedmedlora.corpora.note import Annotates, Note

FORMAT = "fedmedlora-instructions"
VERSION = 1
SCORES = ("exact_match", "choice", "token_f1")

_NOTHING = Annotates(frozenset(), frozenset())
_HEADER_KEYS = ("format", "version", "name", "score", "synthetic", "num_records")
_RECORD_KEYS = ("id", "instruction", "prompt", "response", "choices", "group")


@dataclass(frozen=True, slots=True)
class Record:
    """One prompt and its response. A record never prints its text."""

    instruction: str
    prompt: str
    response: str
    choices: tuple[str, ...]
    score: str

    def __repr__(self) -> str:
        return f"Record(num_characters={len(self.prompt)}, num_choices={len(self.choices)})"


def holds_instructions(path: Path) -> bool:
    """Whether the file ``path`` begins as instruction data does."""
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(1 << 16)
    try:
        found = json.loads(first.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("format") == FORMAT


def is_record(note: Note) -> bool:
    """Whether ``note`` holds a record of instruction data."""
    return "response" in note.meta


def record_of(note: Note) -> Record:
    """The record that ``note`` holds."""
    held = note.meta
    prompt = note.text.removeprefix(held["instruction"] + "\n") if held["instruction"] else note.text
    return Record(
        held["instruction"], prompt, held["response"], tuple(json.loads(held["choices"])), held["score"]
    )


def read_instructions(path: Path | str) -> NoteSet:
    """Records of the file ``path``, each held as a note.

    Raises ``ValueError`` naming file, line and value for anything that is not the format above: a key it
    does not know, an id twice, an empty prompt or response, a response that is none of the choices.
    """
    path = Path(path)
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise ValueError(f"{path}: the file is empty; its first line must be a {FORMAT!r} header")
    header = _header(json_object(lines[0], f"{path}:1"), f"{path}:1")
    notes: list[Note] = []
    first_line: dict[str, int] = {}
    for number, line in enumerate(lines[1:], start=2):
        where = f"{path}:{number}"
        note = _note(json_object(line, where), header["score"], str(number), where)
        if note.id in first_line:
            raise ValueError(f"{where}: id {shown(note.id)} is already on line {first_line[note.id]}")
        first_line[note.id] = number
        notes.append(note)
    stated = header.pop("num_records", len(notes))
    if stated != len(notes):
        raise ValueError(
            f"{path}:1: num_records is {shown(stated)} but {len(notes)} records follow; was the file cut off?"
        )
    if not notes:
        raise ValueError(f"{path}: holds no record, only a header")
    return NoteSet(tuple(notes), header)


def instructions_text(notes: Iterable[Note], header: Mapping[str, Any]) -> str:
    """What ``read_instructions`` reads, of notes that hold records."""
    notes = tuple(notes)
    told = {key: header[key] for key in _HEADER_KEYS if key in header}
    lines: list[dict[str, Any]] = [
        {**told, "format": FORMAT, "version": VERSION, "num_records": len(notes)},
    ]
    for note in notes:
        record = record_of(note)
        found = {"id": note.id, "instruction": record.instruction, "prompt": record.prompt}
        lines.append({**found, "response": record.response, "choices": record.choices, "group": note.group})
    return "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)


def _header(record: dict[str, Any], where: str) -> dict[str, Any]:
    example = f'{{"format": "{FORMAT}", "version": {VERSION}, "score": "exact_match"}}'
    if record.get("format") != FORMAT:
        raise ValueError(
            f"{where}: format is {shown(record.get('format'))}; the first line of instruction data must be a "
            f"header such as {example}"
        )
    check_keys(record, _HEADER_KEYS, where)
    if record.get("version") != VERSION or isinstance(record["version"], bool):
        raise ValueError(f"{where}: version is {shown(record.get('version'))}; known is {VERSION}")
    if record.get("score") not in SCORES:
        raise ValueError(f"{where}: score is {shown(record.get('score'))}; allowed are {', '.join(SCORES)}")
    if not isinstance(record.setdefault("synthetic", False), bool):
        raise ValueError(f"{where}: synthetic is {kind_of(record['synthetic'])}; it must be true or false")
    text_value(record.setdefault("name", ""), "name", where)
    return record


def _note(record: dict[str, Any], score: str, number: str, where: str) -> Note:
    check_keys(record, _RECORD_KEYS, where)
    found = {
        key: text_value(record.get(key, ""), key, where) for key in ("instruction", "prompt", "response")
    }
    note_id = text_value(record.get("id", number), "id", where) or number
    choices = record.get("choices", [])
    if not isinstance(choices, list):
        raise ValueError(f"{where}: choices is {kind_of(choices)}; it must be a list of strings")
    for place, choice in enumerate(choices, start=1):
        text_value(choice, f"choices item {place}", where)
    for key in ("prompt", "response"):
        if key not in record:
            raise ValueError(f"{where}: {key} is missing")
        if not found[key].strip():
            raise ValueError(f"{where}: {key} is empty; a record needs something said and something answered")
    if score == "choice":
        if len(choices) < 2:
            raise ValueError(
                f'{where}: score "choice" needs two choices or more; the record has {len(choices)}'
            )
        if len({choice.strip() for choice in choices}) != len(choices):
            raise ValueError(f"{where}: two of the choices are the same, white space aside; name each once")
        if found["response"] not in choices:
            raise ValueError(f"{where}: the response is none of the {len(choices)} choices")
    meta = {"instruction": found["instruction"], "response": found["response"]}
    meta |= {"choices": json.dumps(choices, ensure_ascii=False), "score": score}
    message = "\n".join(part for part in (found["instruction"], found["prompt"]) if part)
    group = text_value(record.get("group", ""), "group", where)
    return Note(note_id, message, (), (), (), _NOTHING, group, meta)
