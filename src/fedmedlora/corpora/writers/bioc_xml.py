"""Notes to BioC XML: one file; see ``_bioc.py``."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from fedmedlora.corpora.formats._bioc import codec
from fedmedlora.corpora.jsonl import write_atomically
from fedmedlora.corpora.note import Note
from fedmedlora.corpora.writers._bioc import collection_of

# https://www.w3.org/TR/xml/#charsets: what no XML file can hold, not even escaped
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def write(notes: tuple[Note, ...], out: Path) -> Counter[str]:
    """Write ``notes`` to the file ``out``; what BioC does not hold, by reason.

    Raises ``ValueError``, also for a note with a character that XML has no way to write.
    """
    for note in notes:
        mentions = (*note.entities, *note.modifiers)
        names = [word for mention in mentions for word in (mention.id, mention.type)]
        found = _NO_XML.search("".join((note.text, note.id, note.group, *names)))
        if found:
            raise ValueError(
                f"note {note.id!r} holds the character U+{ord(found[0]):04X}, which XML cannot; "
                "write bioc_json instead"
            )
    collection, skipped = collection_of(notes, "biocxml")
    shown: str = codec("biocxml").dumps(collection)
    write_atomically(out, shown.encode("utf-8"))
    return skipped
