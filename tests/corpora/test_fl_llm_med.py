"""The published implementation's JSON, in each of its forms."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedmedlora.corpora.convert import convert
from fedmedlora.corpora.formats.fl_llm_med import read
from fedmedlora.corpora.raw import RawNote


def one(tmp_path: Path, record: object) -> RawNote:
    (tmp_path / "train.json").write_text(json.dumps([record]), encoding="utf-8")
    (note,) = read(tmp_path)
    return note


def shown(note: RawNote) -> list[tuple[str, str]]:
    return [(s.label, note.text[slice(*s.span[0])]) for s in note.spans]


def test_marked_text(tmp_path: Path) -> None:
    html = 'BP < 90 and <span class="problem">chest <span class="bodyloc">wall</span> pain</span>'
    record = {"tokens": ["BP"], "tags": ["O"], "html": html}
    note = one(tmp_path, record)
    assert note.text == "BP < 90 and chest wall pain"
    assert shown(note) == [("problem", "chest wall pain"), ("bodyloc", "wall")]
    assert (note.name, note.folders) == ("train-1", ("train",))


def test_tokens_and_tags(tmp_path: Path) -> None:
    # White space is a token of its own, and its tag says nothing; only the first token has B-.
    tokens = ["No", " ", "chest", "  ", "pain", ",", " ", "fever", "."]
    tags = ["O", "O", "B-problem", "O", "I-problem", "O", "O", "B-problem", "O"]
    note = one(tmp_path, {"tokens": tokens, "tags": tags})
    assert note.text == "No chest  pain, fever."
    assert shown(note) == [("problem", "chest  pain"), ("problem", "fever")]
    note = one(tmp_path, {"tokens": ["No", "fever"], "tags": ["O", "B-problem"]})
    assert (note.text, shown(note)) == ("No fever", [("problem", "fever")])


def test_pairs_for_entities(tmp_path: Path) -> None:
    record = {"input": "No fever", "output": 'No <span class="problem">fever</span>'}
    note = one(tmp_path, record)
    assert (note.text, shown(note), note.relations) == ("No fever", [("problem", "fever")], ())


def test_pairs_for_modifiers(tmp_path: Path) -> None:
    record = {
        "input": 'No <span class="problem">fever</span> today',
        "output": '<span class="negation">No</span> fever <span class="temporal">today</span>',
    }
    note = one(tmp_path, record)
    assert shown(note) == [("problem", "fever"), ("negation", "No"), ("temporal", "today")]
    assert [(r.label, r.source, r.target) for r in note.relations] == [
        ("hasAttr", "T1", "T2"),
        ("hasAttr", "T1", "T3"),
    ]
    (converted,) = convert("fl_llm_med", tmp_path).notes
    assert len(converted.links) == 2


def test_a_modifier_of_several_entities_is_linked_to_none(tmp_path: Path) -> None:
    record = {
        "input": 'No <span class="problem">fever</span>, no <span class="problem">pain</span>',
        "output": '<span class="negation">No</span> fever, no pain',
    }
    note = one(tmp_path, record)
    assert note.relations == ()
    assert note.skipped == {"modifier beside several marked entities: linked to none": 1}


def test_another_text_in_the_output(tmp_path: Path) -> None:
    record = {"input": "No fever", "output": 'No <span class="problem">pain</span>'}
    note = one(tmp_path, record)
    assert (note.text, note.spans) == ("No fever", ())
    assert note.skipped == {"output has another text than input": 1}


def test_lists_of_surfaces(tmp_path: Path) -> None:
    output = [["pain", "problem"], ["pain", "problem"], ["No", "negation"], ["chest", "bodyloc"]]
    note = one(tmp_path, {"input": "No pain, chest pain", "output": output})
    assert [s.span for s in note.spans] == [((3, 7),), ((15, 19),), ((0, 2),), ((9, 14),)]
    note = one(tmp_path, {"input": "pain", "output": [["pain", "problem"], ["pain", "problem"]]})
    assert (len(note.spans), note.skipped) == (1, {"surface is not in the sentence": 1})


def test_a_sentence_without_entities_stays(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"input": "Well .", "output": []}]}))
    (note,) = read(tmp_path)
    assert (note.text, note.spans, dict(note.skipped)) == ("Well .", (), {})


@pytest.mark.parametrize(
    "record",
    [
        7,
        {},
        {"tokens": ["secret"], "tags": []},
        {"tokens": ["secret"], "tags": ["X"]},
        {"tokens": [1], "tags": ["O"]},
        {"input": "secret", "output": [["secret"]]},
        {"input": "secret", "output": [["", "problem"]]},
        {"input": "secret", "output": {}},
        {"html": "secret</span>"},
        {"html": '<span class="a">secret'},
    ],
)
def test_damages_are_named_and_not_shown(record: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.json: record 1: ") as error:
        one(tmp_path, record)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("content", ["[", "3", '{"data": 3}', "[" * 100_000])
def test_files_that_are_not_it(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=r"a\.json"):
        read(tmp_path)


def test_white_space_that_is_tagged_is_counted(tmp_path: Path) -> None:
    note = one(tmp_path, {"tokens": ["a", " ", "b"], "tags": ["O", "B-problem", "O"]})
    assert (note.spans, note.skipped) == ((), {"tagged white space": 1})


def test_a_text_in_the_place_of_a_label_is_not_shown(tmp_path: Path) -> None:
    text = "Mr Secret of 12 Elm Street"
    one(tmp_path, {"input": f"{text} has it. problem", "output": [["problem", text]]})
    with pytest.raises(ValueError, match="unknown label of 26 characters") as error:
        convert("fl_llm_med", tmp_path)
    assert "Secret" not in str(error.value)


def test_half_a_character_and_a_number_of_thousands_of_digits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.json: record 1: the text holds half a character"):
        one(tmp_path, {"html": "a\ud800"})
    (tmp_path / "train.json").write_text("[" + "9" * 5001 + "]")
    with pytest.raises(ValueError, match=r"train\.json: holds a number of too many digits"):
        read(tmp_path)


def test_the_same_surface_many_times_over(tmp_path: Path) -> None:
    num = 2000
    output = [["b", "x"]] * num + [["a", "y"]] * num + [["b", "x"]]
    note = one(tmp_path, {"input": "ab " * num, "output": output})
    assert len({(s.label, s.span) for s in note.spans}) == 2 * num
    assert note.skipped == {"surface is not in the sentence": 1}
