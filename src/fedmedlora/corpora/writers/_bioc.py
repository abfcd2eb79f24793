"""Notes to a BioC collection, the inverse of ``formats/_bioc.py``: what ``bioc_xml`` and ``bioc_json`` share.

A note is a document of one passage at offset 0. Entities and modifiers are annotations with their type as the
infon ``type``; a link is a relation ``hasAttr`` of the roles Arg1 (the entity) and Arg2 (the modifier); a
note's group is the document's infon ``group``.
"""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any

from fedmedlora.corpora.formats._bioc import codec
from fedmedlora.corpora.note import Note, surface
from fedmedlora.corpora.writers import left_out, refuse_without_text
from fedmedlora.corpora.writers.brat import RELATION


def collection_of(notes: tuple[Note, ...], form: str) -> tuple[Any, Counter[str]]:
    """A ``bioc.BioCCollection`` of ``notes`` for the codec ``form``, and what it does not hold, by reason.

    Raises ``ValueError`` without the package, and for annotations without a text.
    """
    codec(form)
    bioc = importlib.import_module("bioc")
    refuse_without_text(notes, "BioC")
    collection = bioc.BioCCollection()
    collection.source, collection.date, collection.key = "fedmedlora", "", ""
    for note in notes:
        document = bioc.BioCDocument()
        document.id = note.id
        if note.group:
            document.infons["group"] = note.group
        passage = bioc.BioCPassage()
        passage.offset, passage.text = 0, note.text
        for mention in (*note.entities, *note.modifiers):
            annotation = bioc.BioCAnnotation()
            annotation.id, annotation.infons = mention.id, {"type": mention.type}
            annotation.text = surface(note.text, mention.span)
            for start, end in mention.span:
                annotation.add_location(bioc.BioCLocation(start, end - start))
            passage.add_annotation(annotation)
        for number, link in enumerate(note.links, start=1):
            relation = bioc.BioCRelation()
            relation.id, relation.infons = f"R{number}", {"type": RELATION}
            relation.add_node(bioc.BioCNode(link.entity, "Arg1"))
            relation.add_node(bioc.BioCNode(link.modifier, "Arg2"))
            passage.add_relation(relation)
        document.add_passage(passage)
        collection.add_document(document)
    return collection, left_out(notes, "meta")
