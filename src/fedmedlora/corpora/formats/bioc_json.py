"""BioC JSON; see ``_bioc.py`` for what becomes of it. A file is one collection or a list of collections."""

from __future__ import annotations

from pathlib import Path

from fedmedlora.corpora.formats._bioc import codec, raw_notes
from fedmedlora.corpora.json_lines import json_value
from fedmedlora.corpora.members import place_of, read_members
from fedmedlora.corpora.raw import RawNote


def read(source: Path) -> tuple[RawNote, ...]:
    """All documents of the ``.json`` files under ``source``, in the order of the files.

    Raises ``ValueError`` naming the file where it is not BioC, and what ``raw_notes`` refuses.
    """
    biocjson = codec("biocjson")
    notes: list[RawNote] = []
    for name, content in read_members(source, (".json",)).items():
        file = place_of(source, name)
        found = json_value(content, file)
        for record in found if isinstance(found, list) else [found]:
            try:
                for key in ("documents", "infons", "source", "date", "key"):
                    record[key]
                given = list(record["documents"])
            except (KeyError, TypeError):
                raise ValueError(
                    f"{file}: not BioC (a collection has documents, infons, source, date and key)"
                ) from None
            documents = []
            for number, document in enumerate(given, start=1):
                try:
                    documents.append(biocjson.fromJSON(document, "BioCDocument"))
                except (KeyError, TypeError, AttributeError) as error:
                    missing = f"no {error}" if isinstance(error, KeyError) else "a value of another type"
                    raise ValueError(f"{file}: document {number}: not BioC ({missing})") from None
            notes += raw_notes(documents, file, name)
    return tuple(notes)
