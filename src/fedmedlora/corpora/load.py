"""Notes as commands take them: JSONL, BRAT in the schema's labels, or plain text."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from fedmedlora.corpora.convert import convert, note_ids, to_notes
from fedmedlora.corpora.formats import brat
from fedmedlora.corpora.jsonl import NoteSet, read_notes
from fedmedlora.corpora.mapping import identity_mapping
from fedmedlora.corpora.members import decode, is_archive, note_name, read_members, refuse_absent
from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.raw import RawNote
from fedmedlora.corpora.schema import CLINICAL, Schema

NOTHING = Annotates(frozenset(), frozenset())


def load_notes(path: Path | str, schema: Schema = CLINICAL) -> NoteSet:
    """Notes at ``path``: a ``.jsonl`` file, a BRAT folder or archive, or one ``.txt`` (with its ``.ann``).

    BRAT labels must be the schema's, and any relation between an entity and a modifier is a link,
    whichever way it points. A ``.txt`` without ``.ann`` is a note with no annotation. Raises
    ``ValueError`` naming file, line and value, also for a type or a pair that the schema does not have, and
    for a JSONL file whose header names another schema.
    """
    path = Path(path)
    refuse_absent(path)
    if path.suffix == ".jsonl":
        return _checked(read_notes(path), schema, path)
    _refuse_unknown(path)
    return convert("brat", path, mapping=identity_mapping("brat", schema))


def load_predictions(path: Path | str, schema: Schema = CLINICAL) -> NoteSet:
    """As ``load_notes``, for what somebody's system found: it needs no text, and need not say ``annotates``.

    So an ``.ann`` may stand without its ``.txt``.
    """
    path = Path(path)
    refuse_absent(path)
    if path.suffix == ".jsonl":
        return _checked(read_notes(path, annotates=NOTHING), schema, path)
    _refuse_unknown(path)
    raws = brat.read(path, needs_text=False)
    if not raws:
        raise ValueError(f"{path}: holds no .txt and no .ann file; is it the right folder?")
    notes, _ = to_notes(raws, identity_mapping("brat", schema))
    return NoteSet(notes, {})


def load_texts(path: Path | str) -> tuple[Note, ...]:
    """Notes at ``path`` to be read by a model: their texts, and nothing that is annotated in them.

    As ``load_notes``, but labels play no role and ``.ann`` files are not opened. Raises ``ValueError``,
    also for a note whose text is not in the file.
    """
    path = Path(path)
    if path.suffix == ".jsonl" and path.exists():
        notes = read_notes(path).notes
        for note in notes:
            if not note.text and note.entities:
                raise ValueError(f"{path}: note {note.id!r} has annotations but no text to read")
        return tuple(replace(note, entities=(), modifiers=(), links=()) for note in notes)
    if path.exists():
        _refuse_unknown(path)
    files = read_members(path, (".txt",))
    if not files:
        raise ValueError(f"{path}: holds no .txt file to read")
    names = [PurePosixPath(name.removesuffix(".txt")) for name in files]
    inside = path.is_dir() or is_archive(path)
    texts = [decode(content, f"{path / name if inside else path}") for name, content in files.items()]
    raws = tuple(
        RawNote(note_name(name.name), text, "", (), folders=name.parts[:-1])
        for name, text in zip(names, texts, strict=True)
    )
    ids = zip(note_ids(raws), texts, strict=True)
    return tuple(Note(note_id, text, (), (), (), NOTHING) for note_id, text in ids)


def _checked(found: NoteSet, schema: Schema, path: Path) -> NoteSet:
    named = found.header["schema"]
    if named != schema.name:
        raise ValueError(
            f"{path}:1: the notes are in the schema {named[:40]!r}, and they are read here in "
            f"{schema.name!r}; name the file of their schema (schema under [tasks] of a study, --schema on "
            "the command line), or correct \"schema\" in the first line (absent, it means 'clinical')"
        )
    for number, note in enumerate(found.notes, start=2):
        check_types(note, schema, f"{path}:{number}")
    return found


def _refuse_unknown(path: Path) -> None:
    if not (path.is_dir() or is_archive(path) or path.name.removesuffix(".gz").endswith(".txt")):
        raise ValueError(
            f"{path}: cannot tell what this is; give a .jsonl file, a BRAT folder, a .zip or .tar.gz of one, "
            "or a .txt file (a corpus in its own labels goes through `fedmedlora corpora convert` first)"
        )


def check_types(note: Note, schema: Schema, where: str) -> None:
    """Raise ``ValueError`` where a type or a linked pair of ``note`` is not in ``schema``."""
    for kind, mentions, known in (
        ("entity type", note.entities, schema.entities),
        ("modifier", note.modifiers, schema.modifiers),
    ):
        for mention in mentions:
            if mention.type not in known:
                near = get_close_matches(mention.type, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else "."
                # A type is a word; what is longer may be anything, also text of a note.
                raise ValueError(
                    f"{where}: note {note.id!r}: {mention.id} has the {kind} {mention.type[:40]!r}{hint} "
                    f"Schema {schema.name!r} has: {', '.join(known)}"
                )
    types = {m.id: m.type for m in (*note.entities, *note.modifiers)}
    pairs = schema.pair_names()
    for link in note.links:
        pair = f"{types[link.entity]}.{types[link.modifier]}"
        if pair not in pairs:
            raise ValueError(
                f"{where}: note {note.id!r}: the link {link.entity}, {link.modifier} makes {pair!r}, "
                f"which is no pair of schema {schema.name!r}; its pairs: {', '.join(pairs)}"
            )
