"""PubTator: abstracts with mentions and relations, as BioCreative V CDR and the NCBI disease corpus use it.

Wei, Kao, Lu, PubTator, Nucleic Acids Research 41 (2013) W518, doi:10.1093/nar/gkt441. Blocks are separated
by empty lines:

    123|t|Title
    123|a|Abstract
    123<TAB>0<TAB>5<TAB>Title<TAB>Disease<TAB>D000001
    123<TAB>CID<TAB>D000002<TAB>D000001

A note's text is the title, one space and the abstract: offsets count that character. A mention's parts (of
a composite one, after the concept) are not read: they are no spans. Relations link concepts and not
mentions, so they are counted as left out. The abstract's number is the note's group: the same abstract may
be in a corpus twice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fedmedlora.corpora.formats.brat import SURFACE_DIFFERS
from fedmedlora.corpora.members import decode_unmarked, place_of, read_members
from fedmedlora.corpora.raw import RawNote, RawSpan, is_label

HOLDS_LINKS = False
_TEXT = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)
_OFFSET = re.compile(r"\d{1,12}", re.ASCII)


def read(source: Path) -> tuple[RawNote, ...]:
    """All abstracts of the ``.txt`` and ``.pubtator`` files under ``source``, in the order of the files.

    Raises ``ValueError`` naming file and line for a block without title and abstract, for a line that is
    neither mention nor relation, and for an offset past the text.
    """
    notes: list[RawNote] = []
    for name, content in read_members(source, (".txt", ".pubtator")).items():
        file = place_of(source, name)
        text = decode_unmarked(content, file)
        # A readme lies beside some corpora; it holds no line of this format.
        if any(_TEXT.match(line) for line in text.split("\n")):
            path = PurePosixPath(name)
            folders = (*path.parts[:-1], path.name.rpartition(".")[0])
            notes += [_note(block, file, folders) for block in _blocks(text)]
    return tuple(notes)


def _blocks(text: str) -> Iterator[list[tuple[int, str]]]:
    """Runs of lines between empty ones, each line with its number from 1."""
    block: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            block.append((number, line.removesuffix("\r")))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _note(block: list[tuple[int, str]], file: str, folders: tuple[str, ...]) -> RawNote:
    parts: dict[str, str] = {}
    first = block[0][0]
    name = ""
    for number, line in block[:2]:
        match = _TEXT.fullmatch(line)
        if match is None or match[2] in parts or (name and match[1] != name):
            raise ValueError(f"{file}:{number}: a block begins with ID|t|title and ID|a|abstract")
        name, parts[match[2]] = match[1], match[3]
    if set(parts) != {"t", "a"}:
        raise ValueError(f"{file}:{first}: a block begins with ID|t|title and ID|a|abstract")
    text = f"{parts['t']} {parts['a']}"
    spans: list[RawSpan] = []
    skipped: Counter[str] = Counter()
    for number, line in block[2:]:
        fields = line.split("\t")
        where = f"{file}:{number}"
        if fields[0] != name:
            raise ValueError(f"{where}: belongs to another abstract than the block it stands in")
        if len(fields) >= 5 and _OFFSET.fullmatch(fields[1]) and _OFFSET.fullmatch(fields[2]):
            start, end = int(fields[1]), int(fields[2])
            if not start < end <= len(text):
                raise ValueError(
                    f"{where}: offsets {start} to {end}; title and abstract have {len(text)} characters"
                )
            if text[start:end] != fields[3]:
                skipped[SURFACE_DIFFERS] += 1
            else:
                spans.append(RawSpan(f"T{len(spans) + 1}", fields[4], ((start, end),), number))
        elif len(fields) == 4 and is_label(fields[1]) and not _OFFSET.fullmatch(fields[1]):
            skipped[f"relation {fields[1]}: links concepts, not mentions"] += 1
        else:
            raise ValueError(f"{where}: neither a mention (6 fields) nor a relation (4 fields)")
    return RawNote(
        name=name,
        text=text,
        source=file,
        spans=tuple(spans),
        folders=folders,
        group=name,
        skipped=skipped,
    )
