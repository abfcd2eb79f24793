"""IOB in its dialects, and its damages."""

import gzip
from pathlib import Path

import pytest

from fedmedlora.corpora.convert import convert
from fedmedlora.corpora.formats.iob import read
from fedmedlora.corpora.iob_tags import chunks, is_tag


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", []),
        ("B-a I-a O", [(0, 2, "a")]),  # IOB2
        ("I-a I-a O I-a", [(0, 2, "a"), (3, 4, "a")]),  # IOB1: B only where two of a type touch
        ("I-a B-a I-a", [(0, 1, "a"), (1, 3, "a")]),
        ("B-a B-a", [(0, 1, "a"), (1, 2, "a")]),
        ("B-a I-b I-b", [(0, 1, "a"), (1, 3, "b")]),  # the type changes: conlleval begins a chunk
        ("S-a B-a E-a S-a", [(0, 1, "a"), (1, 3, "a"), (3, 4, "a")]),  # BIOES
        ("U-a B-a I-a L-a U-a", [(0, 1, "a"), (1, 4, "a"), (4, 5, "a")]),  # BILOU
        ("B-a M-a E-a I-a", [(0, 3, "a"), (3, 4, "a")]),  # nothing is open after E
        ("E-a", [(0, 1, "a")]),
        ("B I O B", [(0, 2, "entity"), (3, 4, "entity")]),  # no types
        ("B-x-y I-x-y", [(0, 2, "x-y")]),
    ],
)
def test_chunks(tags: str, expected: list[tuple[int, int, str]]) -> None:
    assert chunks(tags.split()) == expected


@pytest.mark.parametrize("word", ["o", "B-", "X-a", "Ba", "", "b-a", "B-a b", "O-a", "B_a"])
def test_what_is_no_tag(word: str) -> None:
    assert not is_tag(word)


def test_sentences_without_document_lines(tmp_path: Path) -> None:
    file = tmp_path / "train.txt"
    file.write_bytes(b"\xef\xbb\xbfNo O\nfever NN B-Disease\n\n\n\nWell O\n")
    first, second = read(file)
    assert (first.name, first.text, first.group, first.folders) == ("train-1", "No fever", "", ("train",))
    assert [(s.label, s.span, s.line) for s in first.spans] == [("Disease", ((3, 8),), 2)]
    assert (second.name, second.text, second.spans) == ("train-2", "Well", ())


def test_several_files_are_groups_and_a_readme_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x\tO\n\ny\tO\n")
    (tmp_path / "b.tsv.gz").write_bytes(gzip.compress(b"z\tO\n"))
    (tmp_path / "README.txt").write_text("A corpus of letters.\n\nSee the paper.\n")
    assert [(n.name, n.group) for n in read(tmp_path)] == [
        ("a-1", "a.tsv"),
        ("a-2", "a.tsv"),
        ("b-1", "b.tsv"),
    ]


def test_a_readme_with_a_letter_is_none_and_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.bio").write_text("x\tO\n")
    (tmp_path / "b.txt").write_text("See vitamin B\n")
    (tmp_path / "README.txt").write_text("Made by\nTeam B\nand type O\n")
    assert [n.text for n in read(tmp_path)] == ["x"]
    (tmp_path / "c.tsv").write_text("fever\tB_problem\n")
    with pytest.raises(ValueError, match=r"c\.tsv:1"):
        read(tmp_path)


def test_a_file_that_is_named_is_meant(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("fever b-problem\n")
    assert read(tmp_path) == ()
    with pytest.raises(ValueError, match=r"a\.txt:1: needs a token"):
        read(tmp_path / "a.txt")


def test_what_the_format_cannot_say_nobody_annotated(tmp_path: Path) -> None:
    (tmp_path / "a.iob").write_text("fever B-problem\n")
    found = convert("iob", tmp_path)
    assert found.header["annotates"]["pairs"] == []
    assert found.header["annotates"]["entities"] == ["drug", "problem", "test", "treatment"]


def test_documents(tmp_path: Path) -> None:
    file = tmp_path / "eng.conll"
    lines = [
        "-DOCSTART- -X- -X- O",
        "",
        "a NN O",
        "b NN B-X",
        "",
        "c NN I-X",
        "-DOCSTART- (7) O",
        "",
        "d NN O",
    ]
    file.write_text("\n".join(lines))
    first, second = read(file)
    assert (first.name, first.text) == ("eng-1", "a b\nc")
    # An entity ends with its sentence.
    assert [s.span for s in first.spans] == [((2, 3),), ((4, 5),)]
    assert (second.name, second.text) == ("(7)", "d")


def test_what_is_before_the_first_document_line_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.iob").write_text("a O\n-DOCSTART- O\nb O\n-DOCSTART- O\n")
    assert [n.text for n in read(tmp_path)] == ["a", "b", ""]


def test_a_no_break_space_is_part_of_its_token(tmp_path: Path) -> None:
    (tmp_path / "a.iob").write_text("a\u00a0b\tB-X\nc d\tO\n", encoding="utf-8")
    (note,) = read(tmp_path)
    assert note.text == "a\u00a0b c d"
    assert note.spans[0].span == ((0, 3),)


@pytest.mark.parametrize("line", ["alone", "secret b-x", "\tO", "secret X-a"])
def test_a_line_without_a_tag_is_named_and_not_shown(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.iob").write_text(f"a O\n{line}\n")
    with pytest.raises(ValueError, match=r"a\.iob:2: needs a token in the first column") as error:
        read(tmp_path)
    assert "secret" not in str(error.value)


def test_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.iob").write_bytes(b"a O\n\xff O\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        read(tmp_path)
