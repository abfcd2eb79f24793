import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from fedmedlora.corpora.convert import convert
from fedmedlora.corpora.formats.brat import read
from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.corpora.raw import RawNote
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.corpora.writers.brat import annotation, file_names, write_brat

TEXT = "No fever, no chills."  # fever 3-8, chills 13-19, No 0-2, no 10-12
EVERYTHING = Annotates(frozenset(CLINICAL.entities), frozenset(CLINICAL.pair_names()))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(folder: Path, annotation: str | None, text: str = TEXT, name: str = "n") -> Path:
    (folder / f"{name}.txt").write_text(text, encoding="utf-8", newline="")
    if annotation is not None:
        (folder / f"{name}.ann").write_text(annotation, encoding="utf-8", newline="")
    return folder


def one(folder: Path, annotation: str | None, text: str = TEXT) -> RawNote:
    (note,) = read(write(folder, annotation, text))
    return note


def test_every_kind_of_line(tmp_path: Path) -> None:
    note = one(
        tmp_path,
        "\ufeffT1\tSign 3 8\tfever\r\n"  # a byte order mark and CR LF are no part of the line
        "T2\tSign 13 19\tchills\n"
        "T3\tNeg 0 2\tNo\n"
        "T4\tBoth 3 8;13 19\tfever chills\n"
        "E1\tSign:T1 Cue:T3 Arg:T2 Arg2:E2\n"
        "E2\tSign:T2 \n"
        "R1\tNegates Arg1:T3 Arg2:E1\t\n"
        "R2\tNegates Arg2:E2 Arg1:T3\n"
        "A1\tPolarity E1 NEG\n"
        "A2\tFlag T1\n"
        "M1\tSpeculation E1\n"
        "*\tOR T1 E2\n"
        "#1\tAnnotatorNotes T1\tlooks odd\n"
        "#\tfree comment\n"
        "N1\tReference T1 UMLS:C1\tfever\n"
        "\n",
    )
    assert [(s.id, s.label, s.span, s.line) for s in note.spans] == [
        ("T1", "Sign", ((3, 8),), 1),
        ("T2", "Sign", ((13, 19),), 2),
        ("T3", "Neg", ((0, 2),), 3),
        ("T4", "Both", ((3, 8), (13, 19)), 4),
    ]
    assert [(r.label, r.source, r.target) for r in note.relations] == [
        ("Negates", "T3", "T1"),
        ("Negates", "T3", "T2"),
    ]
    # Arg2 is Arg repeated, because there is an Arg.
    assert note.events[0].roles == (("Cue", "T3"), ("Arg", "T2"), ("Arg", "T2"))
    assert note.events[1].roles == ()
    assert [(a.label, a.target, a.value) for a in note.attributes] == [
        ("Polarity", "T1", "NEG"),
        ("Flag", "T1", ""),
        ("Speculation", "T1", ""),
    ]
    assert note.groups == (("OR", ("T1", "T2")),)
    assert note.skipped == {"comment (# line)": 2, "normalization (N line)": 1}


def test_text_without_annotation_is_a_note(tmp_path: Path) -> None:
    assert one(tmp_path, None).spans == ()
    assert read(tmp_path / "n.txt")[0].text == TEXT


def test_a_text_file_alone_brings_its_annotation(tmp_path: Path) -> None:
    write(tmp_path, "T1\tSign 3 8\tfever\n")
    write(tmp_path, "T1\tSign 3 8\tfever\n", name="other")
    (note,) = read(tmp_path / "n.txt")
    assert len(note.spans) == 1


def test_white_space_at_the_ends_that_the_surface_does_not_have_is_left_off(tmp_path: Path) -> None:
    text = "low fever\r\nthen\nnot"
    note = one(tmp_path, "T1\tX 4 10\tfever\nT2\tX 11 19\tthen\nnot\nT3\tX 11 19\tthen not\n", text)
    assert [s.span for s in note.spans] == [((4, 9),), ((11, 19),), ((11, 19),)]
    assert not note.skipped


def test_fragments_in_any_order(tmp_path: Path) -> None:
    note = one(tmp_path, "T1\tX 13 19;3 8\tchills fever\n")
    assert note.spans[0].span == ((3, 8), (13, 19))


def test_what_cannot_be_kept_is_counted_with_its_links(tmp_path: Path) -> None:
    note = one(
        tmp_path,
        "T1\tX 3 8\tchill\nT2\tX 3 3\t\nT3\tX 0 8;3 5\tNo fever fe\nT4\tX 0 2\tNo\nR1\tr Arg1:T1 Arg2:T4\n",
    )
    assert [s.id for s in note.spans] == ["T4"]
    assert note.skipped == {
        "surface differs from the text at its offsets": 1,
        "empty span": 1,
        "fragments overlap": 1,
    }
    assert note.lost == {"T1", "T2", "T3"}
    assert len(note.relations) == 1


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ("T1\tX 3 21\tfever\n", "n.ann:1: T1 X: offset 21 is past the text, which has 20 characters"),
        (f"T1\tX 3 {'9' * 5000}\tfever\n", "is past the text"),
        ("\nT1\tX 8 3\tfever\n", "n.ann:2: T1 X: span '8 3' ends before it starts"),
        ("T1\tX -3 8\tfever\n", "n.ann:1: T1 is malformed"),
        ("T1\tX ٣ ٨\tfever\n", "T1 is malformed"),
        ("T1\tX 3 8\n", "T1 is malformed"),
        ("T1 X 3 8 fever\n", "n.ann:1: not a BRAT line"),
        ("T1\tX 0 2\tNo\nT1\tX 0 2\tNo\n", "n.ann:2: id 'T1' is used twice"),
        ("T1\tX 0 2\tNo\nR1\tr Arg1:T1 Arg2:T9\n", "n.ann:2: 'T9' is not defined"),
        ("T1\tX 0 2\tNo\nR1\tr Arg1:T1\n", "relation 'r' must have two arguments"),
        ("R1\t\n", "the R line is empty"),
        ("E1\tX\n", "n.ann:1: an event is label:trigger"),
        ("A1\tFlag\n", "names no target"),
    ],
)
def test_bad_lines_are_errors_with_file_line_and_value(tmp_path: Path, annotation: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        one(tmp_path, annotation)
    assert "fever" not in str(caught.value)


def test_annotation_without_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "n.ann").write_text("")
    with pytest.raises(ValueError, match=r"n\.ann: there is no n\.txt beside it"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", ["txt", "ann"])
def test_another_encoding_is_an_error_that_names_the_byte(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, "")
    (tmp_path / f"n.{suffix}").write_bytes("T1 fäver".encode("latin-1"))
    with pytest.raises(ValueError, match=rf"n\.{suffix}: byte 4 is not UTF-8"):
        read(tmp_path)


def test_archives_are_read_in_place_and_write_nothing(tmp_path: Path) -> None:
    files = {
        "top/a/n.txt": TEXT.encode(),
        "top/a/n.ann": b"T1\tSign 3 8\tfever\n",
        "../../outside.txt": b"hostile",
        "__MACOSX/a/._n.txt": b"\xff",
        "top/conf": b"\xff",
    }
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("top/passwords.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    before = names(tmp_path)
    for name in ("x.zip", "x.tar.gz"):
        outside, note = read(tmp_path / name)
        assert outside.text == "hostile"
        assert (note.name, note.folders, len(note.spans)) == ("n", ("top", "a"), 1)
    assert names(tmp_path) == before


def test_gzipped_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "n.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "n.ann.gz").write_bytes(gzip.compress(b"T1\tSign 3 8\tfever\n"))
    assert len(read(tmp_path)[0].spans) == 1
    (tmp_path / "n.txt").write_text(TEXT)
    with pytest.raises(ValueError, match=r"holds 'n\.txt' twice"):
        read(tmp_path)


def test_damaged_archives_and_other_files_are_errors(tmp_path: Path) -> None:
    for name in ("x.zip", "x.tar.gz", "x.txt.gz"):
        (tmp_path / name).write_bytes(b"no archive")
        with pytest.raises(ValueError, match=r"x\..*damaged archive"):
            read(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "locked.zip", "w") as archive:
        archive.writestr("n.txt", TEXT)
    locked = bytearray((tmp_path / "locked.zip").read_bytes())
    locked[6] |= 1  # the flag that says "encrypted", in the file's own header ...
    locked[locked.index(b"PK\x01\x02") + 8] |= 1  # ... and in the list at the end
    (tmp_path / "locked.zip").write_bytes(locked)
    with pytest.raises(ValueError, match=r"locked\.zip: encrypted"):
        read(tmp_path / "locked.zip")
    (tmp_path / "x.docx").write_bytes(b"")
    with pytest.raises(ValueError, match="expected a folder"):
        read(tmp_path / "x.docx")
    with pytest.raises(ValueError, match="no such file or folder"):
        read(tmp_path / "absent")


def test_annotations_without_their_text(tmp_path: Path) -> None:
    (tmp_path / "n.ann").write_text("T1\tproblem 0 9\tchest\npain\nT2\tdrug 12 19\taspirin\n")
    with pytest.raises(ValueError, match=r"there is no n\.txt beside it"):
        read(tmp_path)
    (found,) = read(tmp_path, needs_text=False)
    assert [(s.id, s.label, s.span) for s in found.spans] == [
        ("T1", "problem", ((0, 9),)),  # its surface runs over a line end
        ("T2", "drug", ((12, 19),)),
    ]
    assert found.text == ""
    (tmp_path / "n.ann").write_text(f"T1\tproblem 0 {'9' * 5000}\tpain\n")
    with pytest.raises(ValueError, match=r"n\.ann:1: T1 problem: offset 9+ is past the text"):
        read(tmp_path, needs_text=False)


def test_written_notes_are_read_back(tmp_path: Path) -> None:
    notes = (
        Note(
            "a/../b",
            "No\r\n\tpäin, 😀 fever",
            (Entity("T1", "problem", ((5, 9), (13, 18))), Entity("T2", "problem", ((5, 9),))),
            (Entity("T3", "negation", ((0, 2),)),),
            (Link("T1", "T3"), Link("T2", "T3")),
            EVERYTHING,
        ),
        Note("empty", "", (), (), (), EVERYTHING),
    )
    write_brat(notes, tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert convert("brat", tmp_path / "out").notes == notes
    assert annotation(notes[0]) == (
        "T1\tproblem 5 9;13 18\tpäin fever\n"
        "T2\tproblem 5 9\tpäin\n"
        "T3\tnegation 0 2\tNo\n"
        "R1\thasAttr Arg1:T1 Arg2:T3\n"
        "R2\thasAttr Arg1:T2 Arg2:T3\n"
    )


def test_a_note_without_text_cannot_be_written(tmp_path: Path) -> None:
    note = Note("n", "", (Entity("T1", "problem", ((0, 1),)),), (), (), EVERYTHING)
    with pytest.raises(ValueError, match="BRAT needs the text"):
        write_brat([note], tmp_path / "out")
    assert names(tmp_path) == []


def test_file_names_are_safe_and_distinct() -> None:
    ids = ["../x", "..", ".hidden", "/etc/x", "A", "a", "a~2", "", "x\0y", "C:\\x", "é" * 300, "é" * 301]
    names = file_names(ids)
    assert len({name.casefold() for name in names}) == len(ids)
    for name in names:
        assert name
        assert not name.startswith(".")
        assert not set(name) & set('/\\:\0*?"<>|')
        assert len(name.encode()) < 240
