import dataclasses
import json
import os
import stat
from pathlib import Path

import pytest

from fedmedlora.corpora.jsonl import read_notes, write_notes
from fedmedlora.corpora.note import Annotates, Entity, Link, Note

ANNOTATES = Annotates(frozenset({"problem"}), frozenset({"problem.negation"}))
# 0123456789012345678901
# No naïve fever\r\n\tor pain
NOTE = Note(
    id="n1",
    text="No naïve fever\r\n\tor pain",
    entities=(Entity("T1", "problem", ((9, 14),)), Entity("T2", "problem", ((3, 8), (20, 24)))),
    modifiers=(Entity("T3", "negation", ((0, 2),)),),
    links=(Link("T1", "T3"), Link("T2", "T3")),
    annotates=ANNOTATES,
    group="patient 1",
    meta={"part": "train", "a": "b"},
)
EMPTY = Note("n2", "", (), (), (), ANNOTATES)
HEADER = {"name": "x", "schema": "clinical", "synthetic": True, "skipped": {"b": 1, "a": 2}}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def header(**changes: object) -> str:
    base = {"format": "fedmedlora-notes", "version": 1, "annotates": {"entities": [], "pairs": []}}
    return json.dumps({**base, **changes})


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    return path


def note(**changes: object) -> str:
    return json.dumps({"id": "n1", "text": "no pain", **changes})


def mention(span: object, mention_id: str = "T1") -> list[dict[str, object]]:
    return [{"id": mention_id, "type": "problem", "span": span}]


def test_round_trip_keeps_everything_and_is_canonical(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write_notes(first, [NOTE, EMPTY], header=HEADER)
    found = read_notes(first)
    assert found.notes == (NOTE, EMPTY)
    assert found.header["num_notes"] == 2
    assert found.header["skipped"] == {"a": 2, "b": 1}
    assert found.header["annotates"] == {"entities": ["problem"], "pairs": ["problem.negation"]}
    write_notes(second, found.notes, header=dict(reversed(found.header.items())))
    assert first.read_bytes() == second.read_bytes()


def test_every_note_is_one_line_with_keys_in_fixed_order(tmp_path: Path) -> None:
    odd = dataclasses.replace(EMPTY, text="a\u2028b\nc\x85")
    write_notes(tmp_path / "a.jsonl", [odd], header=HEADER)
    lines = (tmp_path / "a.jsonl").read_bytes().split(b"\n")
    assert len(lines) == 3
    assert list(json.loads(lines[1])) == [
        *("id", "text", "entities", "modifiers", "links", "annotates", "group", "meta")
    ]
    assert list(json.loads(lines[0]))[:2] == ["format", "version"]
    assert read_notes(tmp_path / "a.jsonl").notes == (odd,)


def test_no_notes(tmp_path: Path) -> None:
    write_notes(tmp_path / "a.jsonl", [], header={})
    assert read_notes(tmp_path / "a.jsonl").notes == ()


def test_predictions_need_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_notes(path, [NOTE], header={}, with_text=False)
    assert "fever" not in path.read_text(encoding="utf-8")
    (found,) = read_notes(path).notes
    assert found == dataclasses.replace(NOTE, text="")
    write_notes(path, [found], header={})
    assert read_notes(path).notes == (found,)


def test_the_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    write_notes(tmp_path / "a.jsonl", [NOTE], header={})
    assert stat.S_IMODE((tmp_path / "a.jsonl").stat().st_mode) == 0o600


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    write_notes(path, [EMPTY], header={})
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_notes(path, [NOTE], header={})
    assert path.read_bytes() == before
    assert names(tmp_path) == ["a.jsonl"]


def test_writing_an_id_twice_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'n1' is used twice"):
        write_notes(tmp_path / "a.jsonl", [NOTE, NOTE], header={})
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty"),
        (["{}"], ":1: format is missing"),
        (["[]"], ":1: holds a list"),
        ([header(version=2)], "version is 2; this program reads version 1 only"),
        ([header(version="1")], "version is '1'"),
        ([header(version=True)], "version is True"),
        ([header(num_notes=2), note()], "num_notes is 2 but 1 notes follow"),
        ([header(skipped={"a": -1})], "skipped"),
        ([header(annotates={"entities": ["a"], "pairs": ["ab"]})], "'ab' is no pair"),
        ([header(), "{"], ":2: not JSON at character 1"),
        ([header(), '{"id": NaN}'], ":2: NaN is not JSON"),
        ([header(), '{"id": "a", "id": "b"}'], "names the key 'id' twice"),
        ([header(), "[" * 100_000], ":2: nested too deeply"),
        ([header(), note(), note()], ":3: note id 'n1' is already on line 2"),
        ([header(), note(id="")], "id is empty"),
        ([header(), note(id=3)], "id is 3; it must be a string"),
        ([header(), note(entitys=[])], "did you mean 'entities'"),
        ([header(), note(entities=mention([[3, 8]]))], "offset 8 is past the text, which has 7 characters"),
        ([header(), note(entities=mention([[-1, 2]]))], "not \\[start, end\\]"),
        ([header(), note(entities=mention([[0, True]]))], "not \\[start, end\\]"),
        ([header(), note(entities=mention([[3, 3]]))], "empty, backwards"),
        ([header(), note(entities=mention([[3, 5], [4, 6]]))], "not after the one before"),
        ([header(), note(entities=mention([]))], "span is"),
        ([header(), note(entities=[*mention([[0, 2]]), *mention([[3, 4]])])], "'T1' is used twice"),
        ([header(), note(entities=mention([[0, 2]]), links=[["T1", "T9"]])], "'T9' is no modifier"),
        ([header(), note(links=[["T1", "T9"]])], "'T1' is no entity"),
        ([header(), note(meta={"a": 1})], "meta"),
        ([header(), note(text="\ud800")], "half a character"),
        (['{"format": "fedmedlora-notes", "version": 1}', note()], "neither the note nor the header"),
    ],
)
def test_what_is_not_the_format_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    path = write(tmp_path / "a.jsonl", *lines)
    with pytest.raises(ValueError, match=message) as caught:
        read_notes(path)
    assert str(path) in str(caught.value)


def test_the_same_link_twice_is_refused(tmp_path: Path) -> None:
    line = note(
        entities=mention([[3, 7]]), modifiers=mention([[0, 2]], "T2"), links=[["T1", "T2"], ["T1", "T2"]]
    )
    with pytest.raises(ValueError, match="is there twice"):
        read_notes(write(tmp_path / "a.jsonl", header(), line))


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(header().encode() + b'\n{"id": "n\xe4"}\n')
    with pytest.raises(ValueError, match=":2: byte 9 of the line is not UTF-8"):
        read_notes(path)


def test_messages_hold_no_text(tmp_path: Path) -> None:
    secret = "John Doe was admitted with chest pain and a long history of smoking since 1970"
    path = write(tmp_path / "a.jsonl", header(), note(id="x", group=[secret], **{secret: 1}))
    with pytest.raises(ValueError, match="unknown key str of") as caught:
        read_notes(path)
    assert "John" not in str(caught.value)


def test_note_text_in_the_wrong_place_is_not_repeated(tmp_path):
    path = tmp_path / "n.jsonl"
    head = '{"format": "fedmedlora-notes", "version": 1}\n'
    path.write_text(head + '{"id": "n1", "text": "x", "entities": "Pt John denies pain"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="entities is a string of 19 characters; it must be a list") as told:
        read_notes(path)
    assert "John" not in str(told.value)
