"""Instruction data: read back as written, refused by line, and never shown."""

import json
from pathlib import Path

import pytest

from fedmedlora.corpora.instructions import (
    holds_instructions,
    instructions_text,
    is_record,
    read_instructions,
    record_of,
)

HEADER = {"format": "fedmedlora-instructions", "version": 1, "score": "exact_match"}


def write(path: Path, *records: object, **header: object) -> Path:
    lines = [json.dumps(line, ensure_ascii=False) for line in ({**HEADER, **header}, *records)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_file(tmp_path: Path) -> None:
    first = {
        "id": "q",
        "instruction": "Say it.",
        "prompt": "Übelkeit?\nNow?",
        "response": "yes",
        "group": "p1",
    }
    found = read_instructions(write(tmp_path / "a.jsonl", first, {"prompt": "b", "response": "no"}))
    one, two = found.notes
    assert (one.id, one.text, one.group) == ("q", "Say it.\nÜbelkeit?\nNow?", "p1")
    assert (two.id, two.text, two.group) == ("3", "b", "")
    record = record_of(one)
    assert (record.instruction, record.prompt, record.response) == ("Say it.", "Übelkeit?\nNow?", "yes")
    assert (record.choices, record.score) == ((), "exact_match")
    assert is_record(one)
    assert found.header["synthetic"] is False
    assert "belkeit" not in repr(record) + repr(one)
    assert one.text_hash() != two.text_hash()


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    records = [
        {"prompt": "a\u2028b", "response": " x ", "choices": [" x ", "y"]},
        {"instruction": "i", "prompt": "i\nc", "response": "y", "choices": ["x", "y"]},
    ]
    found = read_instructions(write(tmp_path / "a.jsonl", *records, score="choice", synthetic=True, name="n"))
    (tmp_path / "b.jsonl").write_text(instructions_text(found.notes, found.header), encoding="utf-8")
    again = read_instructions(tmp_path / "b.jsonl")
    assert again.notes == found.notes
    assert again.header == found.header


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "secret"}, "response is missing"),
        ({"prompt": "secret", "response": ""}, "response is empty"),
        ({"prompt": " ", "response": "secret"}, "prompt is empty"),
        ({"prompt": "secret", "response": 3}, "response is 3; it must be a string"),
        ({"prompt": ["secret"], "response": "x"}, "prompt is a list"),
        ({"prompt": "secret", "responce": "x"}, "did you mean 'response'"),
        ({"prompt": "secret", "response": "x", "choices": "ab"}, "choices is a string of 2 characters"),
        (
            {"prompt": "secret", "response": "x", "choices": ["a", 1]},
            "choices item 2 is 1; it must be",
        ),
        ({"prompt": "secret", "response": "x", "group": 1}, "group is 1"),
        ({"id": "2", "prompt": "secret", "response": "x"}, "id '2' is already on line 2"),
        ("secret", "each line must hold one JSON object"),
    ],
)
def test_a_record_is_refused_by_its_line(record: object, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"prompt": "fine", "response": "fine"}, record)
    with pytest.raises(ValueError, match=message) as error:
        read_instructions(path)
    assert "a.jsonl:3" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([], "two choices or more"),
        (["x"], "two choices"),
        (["x", "x "], "two of the choices are the same"),
        (["y", "z"], "none of the 2"),
    ],
)
def test_choices(choices: list[str], message: str, tmp_path: Path) -> None:
    record = {"prompt": "a", "response": "x", "choices": choices}
    path = write(tmp_path / "a.jsonl", record, score="choice")
    with pytest.raises(ValueError, match=message):
        read_instructions(path)
    assert read_instructions(write(tmp_path / "b.jsonl", record)).notes  # elsewhere they play no role


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"format": "fedmedlora-notes"}, "must be a header such as"),
        ({"version": 2}, "version is 2; known is 1"),
        ({"version": True}, "version"),
        ({"score": "bleu"}, "allowed are exact_match, choice, token_f1"),
        ({"synthetic": "no"}, "true or false"),
        ({"metric": "x"}, "unknown key 'metric'"),
        ({"num_records": 3}, "num_records is 3 but 1 records follow"),
        ({"score": None}, "score is missing"),
    ],
)
def test_headers(header: dict[str, object], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"prompt": "a", "response": "x"}, **header)
    with pytest.raises(ValueError, match=message):
        read_instructions(path)


def test_a_file_without_anything(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n\n")
    with pytest.raises(ValueError, match="the file is empty"):
        read_instructions(tmp_path / "a.jsonl")


def test_split_keeps_groups_and_copies_together(tmp_path: Path, capsys) -> None:
    from fedmedlora.cli import main

    records = [{"prompt": f"q {n // 2}", "response": "x", "group": f"g{n // 4}"} for n in range(40)]
    path = write(tmp_path / "a.jsonl", *records, name="n")
    assert main(["corpora", "split", str(path), "--out", str(tmp_path / "parts"), "--seed", "3"]) == 0
    parts = [read_instructions(tmp_path / "parts" / f"{name}.jsonl") for name in ("train", "test")]
    assert [len(part.notes) for part in parts] == [32, 8]
    train, test = ({note.group for note in part.notes} for part in parts)
    assert not train & test
    assert parts[0].header["name"] == "n"


@pytest.mark.parametrize("content", ["", "[" * 99_999, "3", '{"format": "fedmedlora-notes"}', "\xff"])
def test_what_is_no_instruction_data(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(content, encoding="latin-1")
    assert not holds_instructions(tmp_path / "a.jsonl")
    assert not holds_instructions(tmp_path / "absent.jsonl")


def test_half_a_character_in_a_choice(tmp_path: Path) -> None:
    header = json.dumps({**HEADER, "score": "choice"})
    record = '{"prompt": "a", "response": "b", "choices": ["a\\ud800", "b"]}'
    (tmp_path / "a.jsonl").write_text(f"{header}\n{record}\n")
    with pytest.raises(ValueError, match="choices item 1 holds half a character"):
        read_instructions(tmp_path / "a.jsonl")


def test_a_header_alone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no record"):
        read_instructions(write(tmp_path / "a.jsonl"))
