"""IOB: a token and its tag per line, as CoNLL 2003 and most tools for named entities write it.

Columns are separated by a tab, or by spaces where a line has no tab; the first is the token, the last the
tag (IOB1, IOB2, BIOES or BILOU; see ``iob_tags.py``). An empty line ends a sentence. A text is its tokens
with one space between them: the format keeps no other. Where lines begin with ``-DOCSTART-``, what stands
between two of them is a note, a sentence on a line of its own, and a word in such a line's middle columns is
the note's name; elsewhere each sentence is a note, and those of one file are one group where there are
several files (often a file is a document then; a random split keeps it together).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fedmedlora.corpora.iob_tags import chunks, is_tag
from fedmedlora.corpora.members import decode_unmarked, is_archive, place_of, read_members
from fedmedlora.corpora.raw import RawNote, RawSpan

SUFFIXES = (".iob", ".iob2", ".bio", ".bioes", ".conll", ".tsv", ".txt")
DOCUMENT = "-DOCSTART-"
RESERVED = ("O", "_", "-X-")  # fillers of a column, never a note's name
HOLDS_LINKS = False
_SPACES = re.compile(r"[ \t]+")

_Token = tuple[str, str, int]  # token, tag, line


def read(source: Path) -> tuple[RawNote, ...]:
    """All notes of the files under ``source`` that end in one of ``SUFFIXES``, in the order of the files.

    A ``.txt`` of a folder that does not begin with a token and a tag, or holds neither a typed tag nor an O,
    is a readme. Raises ``ValueError`` naming file and line for a line without a tag in its last column.
    """
    notes: list[RawNote] = []
    files = read_members(source, SUFFIXES)
    is_named = source.is_file() and not is_archive(source)  # then it is meant, whatever it looks like
    tagged = {
        n: content
        for n, content in files.items()
        if is_named or not n.endswith(".txt") or _is_tagged(content)
    }
    for name, content in tagged.items():
        file = place_of(source, name)
        lines = decode_unmarked(content, file).split("\n")
        path = PurePosixPath(name)
        stem = path.name.rpartition(".")[0]
        folders = (*path.parts[:-1], stem)
        documents = list(_documents(lines, file))
        has_marks = any(is_marked for _, is_marked, _ in documents)
        for number, (title, _, sentences) in enumerate(documents, start=1):
            if has_marks:
                notes.append(_note(title or f"{stem}-{number}", sentences, file, folders, ""))
                continue
            group = name if len(tagged) > 1 else ""
            notes += [
                _note(f"{stem}-{i}", [sentence], file, folders, group)
                for i, sentence in enumerate(sentences, start=1)
            ]
    return tuple(notes)


def _is_tagged(content: bytes) -> bool:
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    rows = [_SPACES.split(line.strip()) for line in text.split("\n") if line.strip()]
    if rows and rows[0][0] == DOCUMENT:
        return True
    tags = [row[-1] for row in rows if len(row) > 1 and is_tag(row[-1])]
    begins = bool(rows) and len(rows[0]) > 1 and is_tag(rows[0][-1])
    return begins and any(tag == "O" or "-" in tag for tag in tags)


def _documents(lines: list[str], file: str) -> Iterator[tuple[str, bool, list[list[_Token]]]]:
    """(title, whether a line began it, sentences) of each document; what is before the first line too."""
    title, is_marked, found, sentence = "", False, list[list[_Token]](), list[_Token]()
    for number, raw in enumerate(lines, start=1):
        line = raw.strip(" \t\r")
        columns = [c.strip(" ") for c in line.split("\t")] if "\t" in line else _SPACES.split(line)
        if sentence and (not line or columns[0] == DOCUMENT):
            found.append(sentence)
            sentence = []
        if not line:
            continue
        if columns[0] == DOCUMENT:
            if is_marked or found:
                yield title, is_marked, found
            middle = [c for c in columns[1:-1] if c not in ("", *RESERVED)]
            title, is_marked, found = middle[0] if len(middle) == 1 else "", True, []
            continue
        if len(columns) < 2 or not columns[0] or not is_tag(columns[-1]):
            raise ValueError(
                f"{file}:{number}: needs a token in the first column and a tag in the last one (O, B-TYPE, "
                "I-TYPE, ...), with a tab or spaces between them"
            )
        sentence.append((columns[0], columns[-1], number))
    if sentence:
        found.append(sentence)
    if is_marked or found:
        yield title, is_marked, found


def _note(
    name: str, sentences: list[list[_Token]], file: str, folders: tuple[str, ...], group: str
) -> RawNote:
    text, spans = "", list[RawSpan]()
    for sentence in sentences:
        text += "\n" if text else ""
        bounds = []
        for index, (token, _, _) in enumerate(sentence):
            text += " " if index else ""
            bounds.append((len(text), len(text) + len(token)))
            text += token
        for first, after, label in chunks([tag for _, tag, _ in sentence]):
            span = (bounds[first][0], bounds[after - 1][1])
            spans.append(RawSpan(f"T{len(spans) + 1}", label, (span,), sentence[first][2]))
    return RawNote(name, text, file, tuple(spans), folders=folders, group=group)
