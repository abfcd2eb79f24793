"""BioC XML; see ``_bioc.py`` for what becomes of it."""

from __future__ import annotations

import io
from pathlib import Path

from fedmedlora.corpora.formats._bioc import codec, raw_notes
from fedmedlora.corpora.members import place_of, read_members
from fedmedlora.corpora.raw import RawNote


def read(source: Path) -> tuple[RawNote, ...]:
    """All documents of the ``.xml`` files under ``source``, in the order of the files.

    Raises ``ValueError`` naming the file where it is not BioC, or declares entities of its own (which a
    corpus has no use for and an attacker has), and what ``raw_notes`` refuses.
    """
    biocxml = codec("biocxml")
    from lxml.etree import LxmlError

    notes: list[RawNote] = []
    for name, content in read_members(source, (".xml",)).items():
        file = place_of(source, name)
        if b"<!ENTITY" in content.replace(b"\0", b""):
            raise ValueError(f"{file}: declares XML entities; write them out, such files are not read")
        try:
            collection = biocxml.load(io.BytesIO(content))
        except LxmlError as error:
            line = getattr(error, "lineno", None) or 1
            raise ValueError(f"{file}:{line}: not XML ({type(error).__name__})") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{file}: not BioC ({type(error).__name__} in a document)") from None
        notes += raw_notes(collection, file, name)
    return tuple(notes)
