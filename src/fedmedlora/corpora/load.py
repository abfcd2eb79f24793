"""Notes for ``evaluate`` and ``extract``: JSONL, BRAT in the schema's labels, or plain text."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from fedmedlora.corpora.convert import convert
from fedmedlora.corpora.jsonl import NoteSet, read_notes
from fedmedlora.corpora.mapping import identity_mapping
from fedmedlora.corpora.members import is_archive
from fedmedlora.corpora.note import Note
from fedmedlora.corpora.schema import CLINICAL, Schema


def load_notes(path: Path | str, schema: Schema = CLINICAL) -> NoteSet:
    """Notes at ``path``: a ``.jsonl`` file, a BRAT folder or archive, or one ``.txt`` (with its ``.ann``).

    BRAT labels must be the schema's, and any relation between an entity and a modifier is a link,
    whichever way it points. A ``.txt`` without ``.ann`` is a note with no annotation. Raises
    ``ValueError`` naming file, line and value, also for a type or a pair that the schema does not have.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder")
    if path.suffix == ".jsonl":
        found = read_notes(path)
        for number, note in enumerate(found.notes, start=2):
            check_types(note, schema, f"{path}:{number}")
        return found
    if path.is_dir() or is_archive(path) or path.name.removesuffix(".gz").endswith(".txt"):
        return convert("brat", path, mapping=identity_mapping("brat", schema))
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
                raise ValueError(
                    f"{where}: note {note.id!r}: {mention.id} has the {kind} {mention.type!r}{hint} "
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
