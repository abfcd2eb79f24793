"""A corpus in its publisher's format to notes in the schema's labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from fedmedlora.corpora.formats import holds_links, load_reader, reader_names
from fedmedlora.corpora.jsonl import NoteSet, annotates_json
from fedmedlora.corpora.mapping import identity_mapping, mapping_names, shipped_mapping
from fedmedlora.corpora.mapping_rules import Mapping
from fedmedlora.corpora.members import refuse_absent
from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.raw import RawNote
from fedmedlora.corpora.schema import CLINICAL, Schema
from fedmedlora.corpora.to_note import to_note


def convert(
    name: str, src: Path | str, *, mapping: Mapping | None = None, schema: Schema | None = None
) -> NoteSet:
    """Notes of the corpus or reader ``name`` at ``src``, with what was skipped in the header.

    ``name``: a corpus that a mapping is shipped for (``src`` is its folder, its ``raw/`` or its archive),
    or a reader (``src`` holds the files; ``mapping`` absent means labels are the schema's already).
    ``schema``: what the labels are in where no mapping says it (``CLINICAL``).
    Every note is kept: duplicates, and notes without an entity. Ids are file names without extension;
    where two folders hold the same name, those notes keep their folder. Raises ``ValueError``.
    """
    src = Path(src)
    if mapping is None:
        if name in mapping_names():
            mapping = shipped_mapping(name, schema or CLINICAL)
        elif name in reader_names():
            mapping = identity_mapping(name, schema or CLINICAL)
            if not holds_links(name):  # what a format cannot say, nobody annotated in it
                own = Annotates(mapping.annotates.entities, frozenset())
                mapping = replace(mapping, annotates=own)
        else:
            raise ValueError(
                f"unknown corpus or reader {name!r}; corpora: {', '.join(mapping_names())}; "
                f"readers: {', '.join(reader_names())}"
            )
    elif name != mapping.reader and (name in reader_names() or name not in mapping_names()):
        raise ValueError(
            f"the mapping is for the reader {mapping.reader!r}, and asked for was {name!r}; readers: "
            f"{', '.join(reader_names())}"
        )
    reader = name if name in reader_names() else mapping.reader
    raws = load_reader(reader)(locate(src, mapping))
    if not raws:
        what = "folder" if src.is_dir() else "file"
        raise ValueError(
            f"{src}: holds no note that the reader {reader!r} can see; is it the right {what}, and the right "
            "format (docs/formats.md)?"
        )
    notes, skipped = to_notes(raws, mapping)
    resolved = src.resolve()
    header = {
        "name": name if name in mapping_names() else mapping.name,
        "schema": mapping.schema.name,
        "synthetic": False,
        "annotates": annotates_json(mapping.annotates),
        "skipped": dict(skipped),
        # The name only: where it lies on this machine is nobody's business.
        "source": resolved.parent.name if resolved.name == "raw" else resolved.name,
        "mapping": mapping.name,
        "reader": reader,
    }
    return NoteSet(notes, header)


def to_notes(raws: tuple[RawNote, ...], mapping: Mapping) -> tuple[tuple[Note, ...], Counter[str]]:
    """``raws`` in the schema's labels, with unique ids, and what was left out: reason -> count."""
    skipped: Counter[str] = Counter()
    notes = []
    for raw, note_id in zip(raws, note_ids(raws), strict=True):
        note, left_out = to_note(raw, mapping, note_id)
        notes.append(note)
        skipped.update(left_out)
    return tuple(notes), skipped


def locate(src: Path, mapping: Mapping) -> Path:
    """Where under ``src`` the files lie: the first of ``mapping.inside`` that exists, or ``src`` itself."""
    refuse_absent(src)
    if src.is_dir():
        for inside in mapping.inside:
            if (src / inside).exists():
                return src / inside
    return src


def note_ids(raws: tuple[RawNote, ...]) -> tuple[str, ...]:
    """Unique ids: the name, with its folders where two notes share it."""
    names = [raw.name for raw in raws]
    times = Counter(names)
    ids = [
        name if times[name] == 1 else "/".join((*raw.folders, name))
        for name, raw in zip(names, raws, strict=True)
    ]
    taken: set[str] = set()
    for index, plain in enumerate(ids):
        number = 1
        while ids[index] in taken:
            number += 1
            ids[index] = f"{plain}~{number}"
        taken.add(ids[index])
    return tuple(ids)
