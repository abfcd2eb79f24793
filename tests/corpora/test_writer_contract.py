"""The law of ``corpora/writers``, for every file in it: what a format holds, its reader gives back."""

import re
from pathlib import Path

import pytest

from fedmedlora.corpora.convert import convert
from fedmedlora.corpora.note import Annotates, Entity, Link, Note, surface
from fedmedlora.corpora.synthetic import synthesize
from fedmedlora.corpora.writers import load_writer, writer_names

ALL = Annotates(frozenset({"problem", "drug"}), frozenset({"problem.negation"}))
# Nothing at all; CR LF, a tab and a character past the basic plane; "<" and "&".
PLAIN = (
    Note("empty", "", (), (), (), ALL),
    Note("quiet", "nothing\r\n\there", (), (), (), ALL),
    Note(
        "visit 1".replace(" ", "-"),
        "😀 No <severe> fever\r\n\tand ibuprofen&co. Ünit",
        (Entity("T1", "problem", ((14, 19),)), Entity("T2", "drug", ((26, 38),))),
        (Entity("T3", "negation", ((2, 4),)),),
        (Link("T1", "T3"),),
        ALL,
        group="patient-7",
    ),
)
NESTED = Note(
    "n",
    "acute chest pain and fever",
    (
        Entity("T1", "problem", ((6, 16),)),
        Entity("T2", "problem", ((0, 16),)),
        Entity("T3", "problem", ((0, 5), (21, 26))),
    ),
    (),
    (),
    ALL,
    meta={"part": "train"},
)
ANNOTATED = "what a note's source annotates: no place for it; say it under [annotates] of a mapping"
FORMATS = {name: "" if name == "brat" else {"bioc_xml": ".xml", "bioc_json": ".json"}.get(name, ".iob")
           for name in writer_names()}  # fmt: skip


def again(name: str, notes: tuple[Note, ...], folder: Path) -> tuple[dict[str, Note], dict[str, int]]:
    """The notes as the reader of ``name`` gives them back, and what the writer left out."""
    out = folder / f"out{FORMATS[name]}"
    skipped = load_writer(name)(notes, out)
    found = convert(name, out).notes
    assert len(found) == len(notes)
    return {note.id: note for note in found}, dict(skipped)


def said(note: Note) -> tuple[object, ...]:
    types = {m.id: (m.type, m.span) for m in (*note.entities, *note.modifiers)}
    return (
        sorted((e.type, e.span) for e in note.entities),
        sorted((m.type, m.span) for m in note.modifiers),
        sorted((types[link.entity], types[link.modifier]) for link in note.links),
    )


def words(note: Note) -> list[tuple[str, str]]:
    return [(e.type, re.sub(r"\W", "", surface(note.text, e.span))) for e in note.entities]


@pytest.mark.parametrize("name", writer_names())
def test_what_it_holds_comes_back(name: str, tmp_path: Path) -> None:
    found, skipped = again(name, PLAIN, tmp_path)
    for note in PLAIN:
        other = found[note.id]
        if name == "iob":
            assert words(other) == words(note)
            assert "".join(other.text.split()) == "".join(note.text.split())
        else:
            assert other.text == note.text
            assert said(other) == said(note)
        assert other.group == (note.group if name.startswith("bioc") else "")
    expected = {ANNOTATED: len(PLAIN)}
    if not name.startswith("bioc"):
        expected["group of a note: the format has no place for it"] = 1
    if name == "iob":
        expected |= {"modifier: IOB holds entities only": 1, "link: IOB holds entities only": 1}
    assert skipped == expected


@pytest.mark.parametrize("name", writer_names())
def test_spans_in_spans_and_with_gaps(name: str, tmp_path: Path) -> None:
    found, skipped = again(name, (NESTED,), tmp_path)
    no_meta = {"meta of a note: the format has no place for it": 1, ANNOTATED: 1}
    if name == "iob":
        assert words(found["n"]) == [("problem", "acutechestpain")]
        overlap = {
            "entity that overlaps a longer one: IOB has none": 1,
            "entity with a gap: IOB has none": 1,
        }
        assert skipped == no_meta | overlap
    else:
        assert said(found["n"]) == said(NESTED)
        assert skipped == no_meta


@pytest.mark.parametrize("name", writer_names())
def test_a_whole_hospital(name: str, tmp_path: Path) -> None:
    notes = synthesize("riverbend", 25, seed=3, part="train")
    found, _ = again(name, notes, tmp_path)
    for note in notes:
        assert words(found[note.id]) == words(note) if name == "iob" else said(found[note.id]) == said(note)


@pytest.mark.parametrize("name", writer_names())
def test_nothing_is_written_without_the_text(name: str, tmp_path: Path) -> None:
    note = Note("n", "", (Entity("T1", "problem", ((0, 3),)),), (), (), ALL)
    with pytest.raises(ValueError, match="'n' has annotations but no text"):
        load_writer(name)((note,), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_character_that_xml_cannot_hold(tmp_path: Path) -> None:
    note = Note("n", "page\x0cbreak", (), (), (), ALL)
    with pytest.raises(ValueError, match=r"U\+000C.*write bioc_json") as error:
        load_writer("bioc_xml")((note,), tmp_path / "a.xml")
    assert "break" not in str(error.value)
    assert again("bioc_json", (note,), tmp_path)[0]["n"].text == note.text


def test_iob_keeps_the_longest_and_tells_neighbours_apart(tmp_path: Path) -> None:
    spans = ((0, 10), (6, 20), (21, 26), (27, 32))
    entities = tuple(Entity(f"T{i}", "problem", (span,)) for i, span in enumerate(spans))
    note = Note("n", "chest wall pain left fever cough", entities, (), (), ALL)
    found, skipped = again("iob", (note,), tmp_path)
    assert [surface(found["n"].text, e.span) for e in found["n"].entities] == [
        "wall pain left", "fever", "cough",
    ]  # fmt: skip
    assert skipped == {"entity that overlaps a longer one: IOB has none": 1, ANNOTATED: 1}
    assert "fever\tB-problem\ncough\tB-problem" in (tmp_path / "out.iob").read_text()


def test_iob_has_no_way_to_write_white_space_in_a_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="note id"):
        load_writer("iob")((Note("a b", "x", (), (), (), ALL),), tmp_path / "a.iob")


@pytest.mark.parametrize("name", writer_names())
@pytest.mark.parametrize("note_id", ["1%20mg", "x%41", "a/b"])
def test_ids_come_back(name: str, note_id: str, tmp_path: Path) -> None:
    assert list(again(name, (Note(note_id, "fever", (), (), (), ALL),), tmp_path)[0]) == [note_id]


@pytest.mark.parametrize("note_id", ["O", "_", "-X-"])
def test_iob_has_names_that_are_none(note_id: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rename the note"):
        load_writer("iob")((Note(note_id, "x", (), (), (), ALL),), tmp_path / "a.iob")


def test_names_that_xml_cannot_hold(tmp_path: Path) -> None:
    note = Note("n", "fever", (Entity("T\x01", "problem", ((0, 5),)),), (), (), ALL)
    with pytest.raises(ValueError, match=r"note 'n' holds the character U\+0001"):
        load_writer("bioc_xml")((note,), tmp_path / "a.xml")


def test_brat_files_do_not_go_among_others(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("x")
    with pytest.raises(ValueError, match="not empty"):
        load_writer("brat")(PLAIN, tmp_path)


def test_an_unknown_format_lists_the_known_ones() -> None:
    for name in ("bratt", "", "../brat", "__init__", "_bioc"):
        with pytest.raises(ValueError, match="bioc_json, bioc_xml, brat, iob"):
            load_writer(name)


def test_the_command(tmp_path: Path, capsys) -> None:
    from fedmedlora.cli import main
    from fedmedlora.corpora.jsonl import read_notes, write_notes

    notes = tmp_path / "notes.jsonl"
    write_notes(notes, PLAIN, header={"name": "a", "schema": "clinical"})
    out = tmp_path / "out.iob"
    assert main(["corpora", "write", "iob", str(notes), "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{out}: 3 notes as iob\n"
    assert "skipped 1: modifier: IOB holds entities only" in told.err
    assert main(["corpora", "convert", "--reader", "iob", str(out), str(tmp_path / "again.jsonl")]) == 0
    assert len(read_notes(tmp_path / "again.jsonl").notes) == 3
    assert main(["corpora", "write", "brat", str(notes), "--out", str(notes)]) == 2
    assert "is (part of) the input" in capsys.readouterr().err
    assert main(["corpora", "write", "excel", str(notes), "--out", str(out)]) == 2
    assert "bioc_json, bioc_xml, brat, iob" in capsys.readouterr().err
