"""BioC XML; see ``_bioc.py`` for what becomes of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from fedmedlora.corpora.formats._bioc import codec, raw_notes
from fedmedlora.corpora.members import place_of, read_members
from fedmedlora.corpora.raw import RawNote


def read(source: Path) -> tuple[RawNote, ...]:
    """All documents of the ``.xml`` files under ``source``, in the order of the files.

    Raises ``ValueError`` naming the file where it is not BioC, or declares entities of its own (which a
    corpus has no use for and an attacker has), and what ``raw_notes`` refuses.
    """
    biocxml = codec("biocxml")
    from lxml import etree

    notes: list[RawNote] = []
    for name, content in read_members(source, (".xml",)).items():
        file = place_of(source, name)
        parser = etree.XMLParser(remove_comments=True, remove_pis=True, resolve_entities=False)
        try:
            tree = etree.parse(io.BytesIO(content), parser)
        except etree.LxmlError as error:
            line = getattr(error, "lineno", None) or 1
            raise ValueError(f"{file}:{line}: not XML ({type(error).__name__})") from None
        _refuse_oddities(tree, file)
        documents = []
        for number, document in enumerate(tree.getroot().findall("document"), start=1):
            # Written out again, without comments: text behind one would be lost.
            alone = etree.Element("collection")
            alone.append(document)
            try:
                documents += biocxml.loads(etree.tostring(alone, encoding="unicode")).documents
            except (KeyError, TypeError, ValueError, AttributeError):
                raise ValueError(
                    f"{file}: document {number}: not BioC (passages and sentences need a whole number as "
                    "offset; annotations, locations and nodes their attributes)"
                ) from None
        notes += raw_notes(documents, file, name)
    return tuple(notes)


def _refuse_oddities(tree: Any, file: str) -> None:
    """Raise ``ValueError`` for what the library would read as something else, or as nothing."""
    dtd = tree.docinfo.internalDTD
    if dtd is not None and any(True for _ in dtd.iterentities()):
        raise ValueError(f"{file}: declares XML entities; write them out, such files are not read")
    if tree.getroot().tag != "collection":
        raise ValueError(f"{file}: not BioC (the outermost element must be a <collection> of no namespace)")
    for element in tree.getroot().iter("text", "offset", "id", "infon"):
        if len(element):
            raise ValueError(f"{file}:{element.sourceline}: <{element.tag}> holds elements, not text alone")
