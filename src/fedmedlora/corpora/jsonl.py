"""The project's own notes on disk: JSON lines, canonical and versioned.

The first line is the header, every further line one note:

    {"format": "fedmedlora-notes", "version": 1, "name": ..., "schema": "clinical", "synthetic": false,
     "annotates": {"entities": [...], "pairs": [...]}, "num_notes": 2, "skipped": {reason: count}, ...}
    {"id": "n1", "text": "...", "entities": [{"id": "T1", "type": "problem", "span": [[0, 5]]}],
     "modifiers": [...], "links": [["T1", "T2"]], "annotates": {...}, "group": "", "meta": {}}

Offsets are characters (Unicode code points), ``[start, end)``, ascending and disjoint within a span.
``text`` may be absent, in files of predictions: it is "" then and offsets are not held against it.
Absent ``annotates`` of a note means the header's. Same notes and header, same bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmedlora.corpora.json_lines import check_keys, json_object, kind_of, shown, text_value
from fedmedlora.corpora.note import Annotates, Entity, Link, Note, Span, union
from fedmedlora.durable import flush_folders

FORMAT = "fedmedlora-notes"
VERSION = 1

_HEADER_ORDER = (
    "format",
    "version",
    "name",
    "schema",
    "synthetic",
    "annotates",
    "num_notes",
    "skipped",
    "source",
    "mapping",
)
_NOTE_KEYS = ("id", "text", "entities", "modifiers", "links", "annotates", "group", "meta")
_MENTION_KEYS = ("id", "type", "span")


@dataclass(frozen=True, slots=True)
class NoteSet:
    """Notes in file order and the header they came with (``skipped`` holds what was left out, and why)."""

    notes: tuple[Note, ...]
    header: dict[str, Any]


def read_notes(path: Path | str, *, annotates: Annotates | None = None) -> NoteSet:
    """Read a JSONL file of notes. ``annotates``: what is meant where neither header nor note says it.

    Raises ``ValueError`` naming file, line and value for anything that is not the format above: another
    version, a key it does not know, an id twice, a span outside its note, a link to nothing.
    """
    path = Path(path)
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if not lines:
        raise ValueError(f"{path}: the file is empty; its first line must be a {FORMAT!r} header")
    header = _header(json_object(lines[0], f"{path}:1"), f"{path}:1")
    default = annotates
    if "annotates" in header:
        default = annotates_from_json(header["annotates"], f"{path}:1: annotates")
    notes: list[Note] = []
    first_line: dict[str, int] = {}
    for number, line in enumerate(lines[1:], start=2):
        where = f"{path}:{number}"
        note = _note(json_object(line, where), default, where)
        if note.id in first_line:
            raise ValueError(
                f"{where}: note id {note.id!r} is already on line {first_line[note.id]}; ids must be unique"
            )
        first_line[note.id] = number
        notes.append(note)
    stated = header.get("num_notes", len(notes))
    if stated != len(notes):
        raise ValueError(
            f"{path}:1: num_notes is {stated!r} but {len(notes)} notes follow; was the file cut off?"
        )
    return NoteSet(tuple(notes), header)


def write_notes(
    path: Path | str, notes: Iterable[Note], *, header: Mapping[str, Any], with_text: bool = True
) -> None:
    """Write notes under ``header`` (``format``, ``version``, ``num_notes`` and ``annotates`` are filled in).

    ``with_text=False`` leaves the texts out: ids, offsets and types only. The file appears whole or not
    at all (written beside its place, then renamed), readable by its owner only. Raises ``OSError`` when
    the disk does not take it; nothing is left behind then. Raises ``ValueError`` on an id used twice.
    """
    notes = tuple(notes)
    seen: set[str] = set()
    for note in notes:
        if note.id in seen:
            raise ValueError(f"note id {note.id!r} is used twice; ids must be unique in a file")
        seen.add(note.id)
    write_atomically(Path(path), notes_text(notes, header, with_text=with_text).encode("utf-8"))


def notes_text(notes: Iterable[Note], header: Mapping[str, Any], *, with_text: bool = True) -> str:
    """What ``write_notes`` writes, as a string."""
    return "".join(f"{line}\n" for line in _lines(tuple(notes), header, with_text))


def write_atomically(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``, whole or not at all; mode 0600. Raises ``OSError`` naming ``path``."""
    write_together({path: content})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Put each content at its path: all of them, or none where the disk does not take them all.

    Files that are there already are replaced, and only once everything is written. Folders that are not
    there are made, and removed again on failure. Contents and names are on the disk when this returns (where
    the disk fails as the names are flushed, it raises, and the files are there). Mode 0600. Raises
    ``OSError`` naming the path.
    """
    written: list[tuple[str, Path]] = []
    made: list[Path] = []
    path = Path()
    try:
        for path, content in files.items():
            _make_folder(path.parent, made)
            handle, temporary = tempfile.mkstemp(
                dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part"
            )
            written.append((temporary, path))
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for temporary, path in written:
            Path(temporary).replace(path)
        flush_folders([*(path.parent for path in files), *(folder.parent for folder in made)])
    except BaseException as error:  # Ctrl-C leaves nothing half-written either
        for temporary, _ in written:
            Path(temporary).unlink(missing_ok=True)
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # somebody else's file may lie in it by now
                folder.rmdir()
        if isinstance(error, OSError) and error.errno is not None:
            # The system names the temporary file, or none at all.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _make_folder(folder: Path, made: list[Path]) -> None:
    """Make ``folder`` and what is missing above it; ``made`` gets what was made, outermost first."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was first
            parent.mkdir()
            made.append(parent)


def _lines(notes: tuple[Note, ...], header: Mapping[str, Any], with_text: bool) -> Iterable[str]:
    filled = {"skipped": {}, **header, "format": FORMAT, "version": VERSION, "num_notes": len(notes)}
    if "annotates" not in header:
        filled["annotates"] = union(n.annotates for n in notes)
    if isinstance(filled["annotates"], Annotates):
        filled["annotates"] = annotates_json(filled["annotates"])
    filled["skipped"] = dict(sorted(filled["skipped"].items()))
    keys = [k for k in _HEADER_ORDER if k in filled] + sorted(filled.keys() - set(_HEADER_ORDER))
    yield _dump({key: filled[key] for key in keys})
    for note in notes:
        record: dict[str, Any] = {"id": note.id}
        # A prediction without text stays without it when it is written again.
        if with_text and (note.text or not (note.entities or note.modifiers)):
            record["text"] = note.text
        record["entities"] = [_mention_json(m) for m in note.entities]
        record["modifiers"] = [_mention_json(m) for m in note.modifiers]
        record["links"] = [[link.entity, link.modifier] for link in note.links]
        record["annotates"] = annotates_json(note.annotates)
        record["group"] = note.group
        record["meta"] = dict(sorted(note.meta.items()))
        yield _dump(record)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _mention_json(mention: Entity) -> dict[str, Any]:
    return {"id": mention.id, "type": mention.type, "span": [list(f) for f in mention.span]}


def annotates_json(annotates: Annotates) -> dict[str, list[str]]:
    """As it stands in a file: sorted lists."""
    return {"entities": sorted(annotates.entities), "pairs": sorted(annotates.pairs)}


def _header(record: dict[str, Any], where: str) -> dict[str, Any]:
    if record.get("format") == "fedmedlora-instructions":
        raise ValueError(
            f"{where}: the file holds prompts and responses, not notes: for a study with [tasks] names = "
            '["instruction"]'
        )
    if record.get("format") != FORMAT:
        raise ValueError(
            f"{where}: format is {shown(record.get('format'))}; the first line must be a header with "
            f'"format": "{FORMAT}" (`fedmedlora corpora convert` writes such files), or '
            '"fedmedlora-instructions" for prompts and responses (docs/instruction-data.md)'
        )
    version = record.get("version")
    if version != VERSION or isinstance(version, bool):
        raise ValueError(
            f"{where}: version is {shown(version)}; this program reads version {VERSION} only. "
            "Convert the source again with this program, or update it"
        )
    skipped = record.setdefault("skipped", {})
    if not isinstance(skipped, dict) or not all(_is_count(v) for v in skipped.values()):
        raise ValueError(f"{where}: skipped must map each reason to a count (0 or more)")
    if not isinstance(record.setdefault("synthetic", False), bool):
        raise ValueError(f"{where}: synthetic is {shown(record['synthetic'])}; it must be true or false")
    for key in ("name", "schema"):
        if not isinstance(record.setdefault(key, "clinical" if key == "schema" else ""), str):
            raise ValueError(f"{where}: {key} is {kind_of(record[key])}; it must be a string")
    return record


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _note(record: dict[str, Any], default: Annotates | None, where: str) -> Note:
    check_keys(record, _NOTE_KEYS, where)
    note_id = text_value(record.get("id"), "id", where)
    if not note_id:
        raise ValueError(f"{where}: id is empty; every note needs one")
    where = f"{where}: note {shown(note_id)}"
    text = text_value(record.get("text", ""), "text", where)
    num_characters = len(text) if "text" in record else None
    ids: set[str] = set()
    entities = _mentions(record.get("entities", []), "entities", ids, num_characters, where)
    modifiers = _mentions(record.get("modifiers", []), "modifiers", ids, num_characters, where)
    links = _links(record.get("links", []), {e.id for e in entities}, {m.id for m in modifiers}, where)
    if "annotates" in record:
        annotates = annotates_from_json(record["annotates"], f"{where}: annotates")
    elif default is not None:
        annotates = default
    else:
        raise ValueError(f'{where}: neither the note nor the header has "annotates"; add it to the header')
    meta = record.get("meta", {})
    if not isinstance(meta, dict) or not all(isinstance(v, str) for v in meta.values()):
        raise ValueError(f"{where}: meta must map strings to strings")
    group = text_value(record.get("group", ""), "group", where)
    return Note(note_id, text, entities, modifiers, links, annotates, group, meta)


def _mentions(
    value: object, key: str, ids: set[str], num_characters: int | None, where: str
) -> tuple[Entity, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{where}: {key} is {kind_of(value)}; it must be a list")
    found = []
    for number, record in enumerate(value, start=1):
        here = f"{where}: {key} item {number}"
        if not isinstance(record, dict):
            raise ValueError(f"{here} is {kind_of(record)}; it must be an object with {list(_MENTION_KEYS)}")
        check_keys(record, _MENTION_KEYS, here)
        mention_id = text_value(record.get("id"), "id", here)
        if mention_id in ids:
            raise ValueError(f"{here}: id {shown(mention_id)} is used twice in this note")
        ids.add(mention_id)
        mention_type = text_value(record.get("type"), "type", here)
        found.append(Entity(mention_id, mention_type, _span(record.get("span"), num_characters, here)))
    return tuple(found)


def _span(value: object, num_characters: int | None, where: str) -> Span:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: span is {kind_of(value)}; it must be [[start, end], ...]")
    fragments: list[tuple[int, int]] = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or not all(_is_count(x) for x in pair):
            raise ValueError(f"{where}: a fragment of the span is not [start, end] with whole numbers >= 0")
        start, end = pair
        if start >= end or (fragments and start < fragments[-1][1]):
            raise ValueError(
                f"{where}: fragment [{start}, {end}] is empty, backwards or not after the one before it"
            )
        if num_characters is not None and end > num_characters:
            raise ValueError(f"{where}: offset {end} is past the text, which has {num_characters} characters")
        fragments.append((start, end))
    return tuple(fragments)


def _links(value: object, entities: set[str], modifiers: set[str], where: str) -> tuple[Link, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{where}: links is {kind_of(value)}; it must be a list")
    found: dict[Link, None] = {}
    for number, pair in enumerate(value, start=1):
        here = f"{where}: links item {number}"
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(x, str) for x in pair):
            raise ValueError(f"{here} must be [entity id, modifier id]")
        link = Link(*pair)
        if link.entity not in entities:
            raise ValueError(f"{here}: {shown(link.entity)} is no entity of this note")
        if link.modifier not in modifiers:
            raise ValueError(f"{here}: {shown(link.modifier)} is no modifier of this note")
        if link in found:
            raise ValueError(f"{here}: the link {shown(link.entity)}, {shown(link.modifier)} is there twice")
        found[link] = None
    return tuple(found)


def annotates_from_json(value: object, where: str) -> Annotates:
    """What ``annotates_json`` gave. Raises ``ValueError`` that begins with ``where``."""
    if not isinstance(value, dict) or set(value) != {"entities", "pairs"}:
        raise ValueError(f'{where} must be {{"entities": [...], "pairs": [...]}}')
    lists = [value["entities"], value["pairs"]]
    if not all(isinstance(x, list) and all(isinstance(s, str) for s in x) for x in lists):
        raise ValueError(f"{where}: entities and pairs must be lists of strings")
    for pair in value["pairs"]:
        if pair.count(".") != 1:
            raise ValueError(f'{where}: {shown(pair)} is no pair; write "entity.modifier"')
    return Annotates(frozenset(value["entities"]), frozenset(value["pairs"]))
