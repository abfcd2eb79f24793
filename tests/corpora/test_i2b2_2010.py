"""i2b2 2010: places counted in lines and tokens, assertions, relations. All of it is made up here."""

from pathlib import Path

import pytest

from fedmedlora.corpora.convert import convert
from fedmedlora.corpora.formats.i2b2_2010 import read

TEXT = "Admission Note\nNo  Chest Pain today .\n\nASA given for chest pain .\n"
CON = (
    'c="chest pain" 2:1 2:2||t="problem"\n'
    'c="asa" 4:0 4:0||t="treatment"\n'
    'c="chest pain" 4:3 4:4||t="problem"\n'
)
AST = 'c="chest pain" 2:1 2:2||t="problem"||a="absent"\n'
REL = 'c="asa" 4:0 4:0||r="TrAP"||c="chest pain" 4:3 4:4\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for kind, content in (("txt", TEXT), ("con", CON), ("ast", AST), ("rel", REL)):
        place = tmp_path / "beth" / {"con": "concept"}.get(kind, kind)
        place.mkdir(parents=True)
        (place / f"record-1.{kind}").write_text(content, encoding="utf-8")
    return tmp_path


def test_concepts_assertions_and_relations(folder: Path) -> None:
    (note,) = read(folder)
    assert (note.name, note.text, note.folders) == ("record-1", TEXT, ("beth", "txt"))
    shown = {s.id: (s.label, TEXT[slice(*s.span[0])]) for s in note.spans}
    assert list(shown.values()) == [
        ("problem", "Chest Pain"),
        ("treatment", "ASA"),
        ("problem", "chest pain"),
    ]
    assert [(a.label, shown[a.target][1], a.value) for a in note.attributes] == [
        ("assertion", "Chest Pain", "absent")
    ]
    assert [(r.label, shown[r.source][1], shown[r.target][1]) for r in note.relations] == [
        ("TrAP", "ASA", "chest pain")
    ]
    assert not note.skipped


def test_the_shipped_mapping(folder: Path) -> None:
    found = convert("i2b2_2010", folder)
    (note,) = found.notes
    assert [e.type for e in note.entities] == ["problem", "problem"]
    assert found.header["annotates"] == {"entities": ["problem", "test"], "pairs": []}
    assert found.header["skipped"] == {
        "label treatment: ignored": 1,
        "relation TrAP: ignored": 1,
        "attribute assertion: no mapping": 1,
    }


def test_empty_words_count_where_the_surface_says_so(folder: Path) -> None:
    # "No", "", "Chest", "Pain": tokens 2 and 3 where every space separates.
    (folder / "beth" / "concept" / "record-1.con").write_text('c="chest pain" 2:2 2:3||t="problem"\n')
    for kind in ("ast", "rel"):
        (folder / "beth" / kind / f"record-1.{kind}").unlink()
    (note,) = read(folder)
    assert TEXT[slice(*note.spans[0].span[0])] == "Chest Pain"


def test_windows_line_ends_and_a_concept_over_two_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one two\r\nthree\r\n")
    (tmp_path / "a.con").write_bytes(b'c="two three" 1:1 2:0||t="test"\r\n')
    (note,) = read(tmp_path)
    assert note.spans[0].span == ((4, 14),)


def test_an_assertion_finds_the_concept_of_its_type(folder: Path) -> None:
    con = folder / "beth" / "concept" / "record-1.con"
    for first in ("chest pain", "chest pains"):  # the second is left out
        con.write_text(f'c="{first}" 2:1 2:2||t="test"\n{CON}')
        (note,) = read(folder)
        (assertion,) = note.attributes
        assert next(s.label for s in note.spans if s.id == assertion.target) == "problem"
    con.write_text(f'c="chest pain" 4:3 4:4||t="test"\n{CON}'.replace('c="chest pain" 4:3', 'c="no" 4:3', 1))
    (note,) = read(folder)
    assert note.relations[0].target not in note.lost  # the concept there that was kept


def test_many_concepts_on_one_line(tmp_path: Path) -> None:
    num = 3000
    (tmp_path / "a.txt").write_text("pain " * num)
    lines = "".join(f'c="pain" 1:{n} 1:{n}||t="problem"\n' for n in range(num))
    (tmp_path / "a.con").write_text(lines)
    assert len(read(tmp_path)[0].spans) == num
    (tmp_path / "a.con").write_text('c="' + '" 1:0 1:0||r="x"||c="' * 5000)
    with pytest.raises(ValueError, match=r"not a line of a \.con file"):
        read(tmp_path)


def test_a_surface_that_differs_is_left_out_with_what_names_it(folder: Path) -> None:
    con = folder / "beth" / "concept" / "record-1.con"
    con.write_text(CON.replace('c="asa"', 'c="ibuprofen"').replace('c="chest pain" 2:1', 'c="fever" 2:1'))
    (note,) = read(folder)
    assert dict(note.skipped) == {
        "surface differs from the text at its offsets": 2,
        "assertion of a concept that was left out": 1,
    }
    assert not note.attributes
    assert note.relations[0].source in note.lost
    found = convert("i2b2_2010", folder).header["skipped"]
    assert found["surface differs from the text at its offsets"] == 2


@pytest.mark.parametrize(
    ("kind", "line", "message"),
    [
        ("con", 'c="secret" 9:0 9:0||t="problem"', "9:0 to 9:0 is not in the text"),
        ("con", 'c="secret" 1:7 1:7||t="problem"', "1:7 to 1:7 is not in the text"),
        ("con", 'c="secret" 0:0 0:0||t="problem"', "0:0 to 0:0 is not in the text"),
        ("con", 'c="secret" 2:2 2:1||t="problem"', "is not in the text"),
        ("con", 'c="secret" 1:0||t="problem"', "not a line of a .con file"),
        ("ast", 'c="secret" 1:0 1:0||t="problem"||a="absent"', "has no concept of that type at 1:0"),
        ("rel", 'c="secret" 1:0 1:0||r="X"||c="asa" 4:0 4:0', "has no concept at 1:0"),
        ("rel", 'c="asa" 4:0 4:0||r="X"', "not a line of a .rel file"),
    ],
)
def test_damages_are_named_and_not_shown(kind: str, line: str, message: str, folder: Path) -> None:
    file = folder / "beth" / {"con": "concept"}.get(kind, kind) / f"record-1.{kind}"
    lines = [*file.read_text().splitlines(), line]
    file.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message) as error:
        read(folder)
    assert f"record-1.{kind}:{len(lines)}" in str(error.value)
    assert "secret" not in str(error.value)


def test_an_annotation_needs_its_text_and_a_name_is_used_once(folder: Path) -> None:
    (folder / "other.con").write_text(CON)
    with pytest.raises(ValueError, match=r"there is no other\.txt"):
        read(folder)
    (folder / "other.con").unlink()
    (folder / "record-1.txt").write_text(TEXT)
    with pytest.raises(ValueError, match=r"another record-1\.txt"):
        read(folder)


def test_a_text_alone_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("quiet night")
    (note,) = read(tmp_path)
    assert (note.text, note.spans) == ("quiet night", ())
