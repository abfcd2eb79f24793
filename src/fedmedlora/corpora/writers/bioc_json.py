"""Notes to BioC JSON: one file; see ``_bioc.py``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from fedmedlora.corpora.formats._bioc import codec
from fedmedlora.corpora.jsonl import write_atomically
from fedmedlora.corpora.note import Note
from fedmedlora.corpora.writers._bioc import collection_of


def write(notes: tuple[Note, ...], out: Path) -> Counter[str]:
    """Write ``notes`` to the file ``out``; what BioC does not hold, by reason. Raises ``ValueError``."""
    collection, skipped = collection_of(notes, "biocjson")
    shown: str = codec("biocjson").dumps(collection, ensure_ascii=False, indent=1)
    write_atomically(out, f"{shown}\n".encode())
    return skipped
