"""BioC documents to raw notes: what ``bioc_xml`` and ``bioc_json`` share.

Comeau et al., BioC: a minimalist approach to interoperability for biomedical text processing, Database 2013,
doi:10.1093/database/bat064. The package ``bioc`` (https://github.com/bionlplab/bioc) reads the files.

A document is a note. Its text is that of its passages (or of their sentences) at their offsets, counted in
characters from the first passage; the characters between two passages, which the format does not hold,
become line ends, and those between two sentences spaces. A label is the infon ``type``; other infons of an
annotation are attributes. A relation of two nodes is a relation (nodes with the roles Arg1 and Arg2 in that
order, others as they stand), one of another number an event without a trigger. The document's infon ``group``
is the note's group.
"""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from fedmedlora.corpora.formats.brat import SURFACE_DIFFERS
from fedmedlora.corpora.json_lines import text_value
from fedmedlora.corpora.note import Span, surface
from fedmedlora.corpora.raw import RawAttribute, RawEvent, RawNote, RawRelation, RawSpan

MAX_GAP = 1_000_000  # characters between the passages of a document, in all; more is damage

_Ids = dict[str, list[str]]  # an annotation's id in the file -> ids in the raw note


def codec(name: str) -> Any:
    """``bioc.biocxml`` or ``bioc.biocjson``. Raises ``ValueError`` that says what to install."""
    try:
        return importlib.import_module(f"bioc.{name}")
    except ModuleNotFoundError:
        raise ValueError(
            'BioC files need the package bioc, which is not installed here: pip install "fedmedlora[bioc]"'
        ) from None


@dataclass(slots=True)
class _Draft:
    where: str
    text: str = ""
    begin: int = 0  # the document's offset of the text's first character
    spans: list[RawSpan] = field(default_factory=list)
    relations: list[RawRelation] = field(default_factory=list)
    events: list[RawEvent] = field(default_factory=list)
    attributes: list[RawAttribute] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    lost: set[str] = field(default_factory=set)
    num_annotations: int = 0


def raw_notes(documents: Sequence[Any], file: str, name: str) -> list[RawNote]:
    """``bioc.BioCDocument``s that were read from ``file``, the member ``name``.

    Raises ``ValueError`` naming file and document: passages that overlap, an offset past the text, an
    annotation without a type, a relation to nothing.
    """
    path = PurePosixPath(name)
    folders = (*path.parts[:-1], path.name.split(".")[0])
    return [
        _note(document, file, f"{file}: document {number}", folders, f"{folders[-1]}-{number}")
        for number, document in enumerate(documents, start=1)
    ]


def _note(document: Any, file: str, where: str, folders: tuple[str, ...], plain: str) -> RawNote:
    draft = _Draft(where)
    group = _infons(document, where).get("group")
    _take_text(document, draft)
    everywhere: _Ids = {}
    scopes: list[tuple[Any, _Ids]] = [(document, everywhere)]
    for passage in document.passages:
        scopes += [(part, {}) for part in (passage, *passage.sentences)]
    for part, own in scopes:
        for annotation in part.annotations:
            new = _take(annotation, draft)
            own.setdefault(str(annotation.id), []).append(new)
            if own is not everywhere:
                everywhere.setdefault(str(annotation.id), []).append(new)
    for part, own in scopes:
        for relation in part.relations:
            _relate(relation, own, everywhere, draft)
    return RawNote(
        name=str(document.id or plain),
        text=draft.text,
        source=file,
        spans=tuple(draft.spans),
        relations=tuple(draft.relations),
        events=tuple(draft.events),
        attributes=tuple(draft.attributes),
        folders=folders,
        group=str(group or ""),
        skipped=draft.skipped,
        lost=frozenset(draft.lost),
    )


def _take_text(document: Any, draft: _Draft) -> None:
    """Put passages (or their sentences) at their offsets."""
    pieces: list[tuple[int, str, str]] = []  # offset, text, what fills the gap before it
    for passage in document.passages:
        if passage.text is not None and (passage.text or not passage.sentences):
            pieces.append((passage.offset, passage.text, "\n"))
        else:
            parts = [(s.offset, s.text or "", " ") for s in passage.sentences]
            pieces += [(offset, text, " " if i else "\n") for i, (offset, text, _) in enumerate(parts)]
    if not all(type(offset) is int for offset, _, _ in pieces):
        raise ValueError(f"{draft.where}: a passage needs a whole number as offset, and a text")
    for _, text, _ in pieces:
        text_value(text, "text of a passage", draft.where)
    pieces.sort(key=lambda piece: piece[0])
    draft.begin = pieces[0][0] if pieces else 0
    filled: list[str] = []
    length = all_gaps = 0
    for offset, text, filler in pieces:
        gap = offset - draft.begin - length
        all_gaps += gap
        if gap < 0 or all_gaps > MAX_GAP:
            raise ValueError(
                f"{draft.where}: the passage at offset {offset} begins {'before' if gap < 0 else 'far past'} "
                "the end of the one before it; offsets count characters from the document's beginning"
            )
        filled += [filler * gap, text]
        length += gap + len(text)
    draft.text = "".join(filled)


def _take(annotation: Any, draft: _Draft) -> str:
    """Keep an annotation, or count why not; its id in the raw note."""
    draft.num_annotations += 1
    new = f"T{draft.num_annotations}"
    where = f"{draft.where}: annotation {draft.num_annotations}"
    infons = _infons(annotation, where)
    label = infons.get("type")
    if not isinstance(label, str) or not label:
        raise ValueError(f'{where}: has no infon "type"; its value becomes the label')
    places = [(location.offset, location.length) for location in annotation.locations]
    if not all(type(offset) is int and type(length) is int and length > 0 for offset, length in places):
        raise ValueError(f"{where}: offset and length of a location must be whole numbers, length above 0")
    span: Span = tuple(sorted((o - draft.begin, o - draft.begin + n) for o, n in places))
    if not span:
        return _lose(new, "annotation without a location", draft)
    if span[0][0] < 0 or span[-1][1] > len(draft.text):
        raise ValueError(
            f"{where}: offsets {span[0][0] + draft.begin} to {span[-1][1] + draft.begin}; the text is from "
            f"{draft.begin} to {draft.begin + len(draft.text)}"
        )
    if any(a[1] > b[0] for a, b in pairwise(span)):
        return _lose(new, "fragments overlap", draft)
    written = annotation.text
    if (
        written is not None
        and text_value(written, "text", where).split() != surface(draft.text, span).split()
    ):
        return _lose(new, SURFACE_DIFFERS, draft)
    draft.spans.append(RawSpan(new, label, span, draft.num_annotations))
    for key, value in infons.items():
        if key != "type":
            draft.attributes.append(RawAttribute(str(key), new, _plain(value), draft.num_annotations))
    return new


def _infons(owner: Any, where: str) -> dict[str, Any]:
    """The infons of a document, an annotation or a relation; JSON may hold anything in their place."""
    if not isinstance(owner.infons, dict):
        raise ValueError(f"{where}: infons must be an object of names and values")
    return owner.infons


def _plain(value: object) -> str:
    """An infon as text; JSON may hold other things. "" would be a flag that is set."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _lose(new: str, reason: str, draft: _Draft) -> str:
    draft.skipped[reason] += 1
    draft.lost.add(new)
    return new


def _relate(relation: Any, own: _Ids, everywhere: _Ids, draft: _Draft) -> None:
    number = len(draft.relations) + len(draft.events) + 1
    where = f"{draft.where}: relation {number}"
    infons = _infons(relation, where)
    label = str(infons.get("type") or "")
    roles: list[tuple[str, str]] = []
    for node in relation.nodes:
        found = own.get(str(node.refid)) or everywhere.get(str(node.refid)) or []
        if len(found) == 1:
            roles.append((str(node.role), found[0]))
        elif found:
            raise ValueError(f"{where}: several annotations have the id that it names; make ids unique")
        else:
            draft.skipped[f"relation {label}: names no annotation (another relation?)"] += 1
            return
    if not label:
        raise ValueError(f'{where}: has no infon "type"; its value becomes the relation\'s name')
    if len(roles) == 2:
        if [role for role, _ in roles] == ["Arg2", "Arg1"]:
            roles.reverse()
        draft.relations.append(RawRelation(label, roles[0][1], roles[1][1], number))
    elif roles:
        draft.events.append(RawEvent(label, "", tuple(roles), number))
    else:
        draft.skipped["relation without a node"] += 1
    for key in infons:
        if key != "type":
            draft.skipped["infon of a relation"] += 1
