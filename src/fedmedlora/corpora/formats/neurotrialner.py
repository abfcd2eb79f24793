"""NeuroTrialNER's JSON: registered trials, title and summary, with typed spans.

Doneva et al., NeuroTrialNER, EMNLP 2024, https://github.com/Ineichen-Group/NeuroTrialNER. A file is a list of
records with ``nctid``, ``text`` and ``entities`` (``start``, ``end``, ``text``, ``type``); tokens and their
BIO labels, which the records hold too, say the same and are not read.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from fedmedlora.corpora.formats.brat import SURFACE_DIFFERS
from fedmedlora.corpora.json_lines import json_value, text_value
from fedmedlora.corpora.members import place_of, read_members
from fedmedlora.corpora.raw import RawNote, RawSpan

HOLDS_LINKS = False


def read(source: Path) -> tuple[RawNote, ...]:
    """All trials of the ``.json`` files (or ``.json.gz``) under ``source``.

    Raises ``ValueError`` naming file and record (from 1) on anything else, and on an offset past the text.
    """
    notes: list[RawNote] = []
    for name, content in read_members(source, (".json",)).items():
        file = place_of(source, name)
        records = json_value(content, file)
        if not isinstance(records, list):
            raise ValueError(f"{file}: must be a list of trials, each with nctid, text and entities")
        path = PurePosixPath(name)
        folders = (*path.parts[:-1], path.name.split(".")[0])
        notes += [_note(record, file, number, folders) for number, record in enumerate(records, start=1)]
    return tuple(notes)


def _note(record: Any, file: str, number: int, folders: tuple[str, ...]) -> RawNote:
    where = f"{file}: record {number}"
    try:
        name, text, entities = record["nctid"], record["text"], record["entities"]
        found = [(e["start"], e["end"], e["text"], e["type"]) for e in entities]
    except (KeyError, TypeError):
        raise ValueError(f"{where}: needs nctid, text and entities with start, end, text and type") from None
    kinds = [(type(a), type(b), type(c), type(d)) for a, b, c, d in found]
    if not isinstance(name, str) or not isinstance(text, str) or set(kinds) - {(int, int, str, str)}:
        raise ValueError(f"{where}: nctid, text, surfaces and types are texts, offsets whole numbers")
    text_value(text, "text", where)
    spans: dict[tuple[str, int, int], RawSpan] = {}
    skipped: Counter[str] = Counter()
    for start, end, surface, label in found:
        if not 0 <= start < end <= len(text):
            raise ValueError(f"{where}: offsets {start} to {end}; the text has {len(text)} characters")
        if text[start:end] != surface:
            skipped[SURFACE_DIFFERS] += 1
        elif (label, start, end) in spans:
            skipped["same span and type again"] += 1
        else:
            spans[label, start, end] = RawSpan(f"T{len(spans) + 1}", label, ((start, end),), number)
    return RawNote(
        name=name, text=text, source=file, spans=tuple(spans.values()), folders=folders, skipped=skipped
    )
