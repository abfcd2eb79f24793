from pathlib import Path

import pytest

from fedmedlora.corpora.convert import convert
from fedmedlora.corpora.jsonl import write_notes
from fedmedlora.corpora.load import load_notes, load_texts
from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.corpora.stats import stats

ANNOTATES = Annotates(frozenset({"problem"}), frozenset({"problem.negation"}))


def note(entity: str = "problem", modifier: str = "negation") -> Note:
    mentions = Entity("T1", entity, ((3, 7),)), Entity("T2", modifier, ((0, 2),))
    return Note("n", "no pain", mentions[:1], mentions[1:], (Link("T1", "T2"),), ANNOTATES)


def brat(folder: Path, name: str, annotation: str | None) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text("no pain")
    if annotation is not None:
        (folder / f"{name}.ann").write_text(annotation)


ANNOTATION = "T1\tproblem 3 7\tpain\nT2\tnegation 0 2\tno\nR1\tof Arg1:T2 Arg2:T1\n"


def test_jsonl_brat_and_text_say_the_same(tmp_path: Path) -> None:
    write_notes(tmp_path / "a.jsonl", [note()], header={})
    brat(tmp_path / "folder", "n", ANNOTATION)
    (first,) = load_notes(tmp_path / "a.jsonl").notes
    (second,) = load_notes(tmp_path / "folder").notes
    (third,) = load_notes(tmp_path / "folder" / "n.txt").notes
    assert first == note()
    assert second == third
    assert (second.entities, second.modifiers, second.links) == (first.entities, first.modifiers, first.links)


def test_a_text_alone_is_a_note(tmp_path: Path) -> None:
    brat(tmp_path, "n", None)
    assert load_notes(tmp_path / "n.txt").notes[0].entities == ()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (note(entity="problm"), r":2: note 'n': T1 has the entity type 'problm'; did you mean 'problem'"),
        (note(modifier="neg"), "T2 has the modifier 'neg'"),
        (note(modifier="route"), "makes 'problem.route', which is no pair"),
    ],
)
def test_types_must_be_the_schemas(tmp_path: Path, bad: Note, message: str) -> None:
    write_notes(tmp_path / "a.jsonl", [bad], header={})
    with pytest.raises(ValueError, match=message):
        load_notes(tmp_path / "a.jsonl")


def test_a_type_that_is_a_sentence_is_not_repeated(tmp_path: Path) -> None:
    secret = "Mrs Example was seen today and complained of a headache"
    write_notes(tmp_path / "a.jsonl", [note(entity=secret)], header={})
    with pytest.raises(ValueError, match="has the entity type 'Mrs Example") as caught:
        load_notes(tmp_path / "a.jsonl")
    assert "headache" not in str(caught.value)


def test_unknown_labels_and_files(tmp_path: Path) -> None:
    brat(tmp_path / "folder", "n", "T1\tSymptom 3 7\tpain\n")
    with pytest.raises(ValueError, match=r"n\.ann:1: unknown label 'Symptom'"):
        load_notes(tmp_path / "folder")
    with pytest.raises(ValueError, match="no such file"):
        load_notes(tmp_path / "absent.jsonl")
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(ValueError, match="cannot tell what this is"):
        load_notes(tmp_path / "x.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no note"):
        load_notes(tmp_path / "empty")


def test_ids_keep_the_folder_only_where_names_collide(tmp_path: Path) -> None:
    for name in ("a/n", "b/n", "b/m"):
        brat(tmp_path, name, None)
    assert [n.id for n in convert("brat", tmp_path).notes] == ["a/n", "m", "b/n"]


def test_the_header_does_not_say_where_the_files_lie(tmp_path: Path) -> None:
    brat(tmp_path / "mine" / "raw", "n", ANNOTATION)
    header = convert("brat", tmp_path / "mine" / "raw").header
    assert header["source"] == "mine"
    assert str(tmp_path) not in str(header)


def test_convert_names_what_it_knows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"corpora: .*chia, .*; readers: .*brat, .*phee"):
        convert("nothing", tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        convert("chia", tmp_path / "absent")


def test_stats(tmp_path: Path) -> None:
    brat(tmp_path, "n", ANNOTATION + "#1\tNote T1\tx\n")
    brat(tmp_path, "m", None)
    found = stats(load_notes(tmp_path))
    assert found["num_notes"] == 2
    assert found["entities"] == {"problem": 1, "treatment": 0, "drug": 0, "test": 0}
    assert {k: v for k, v in found["modifiers"].items() if v} == {"negation": 1}
    assert {k: v for k, v in found["links"].items() if v} == {"problem.negation": 1}
    assert len(found["links"]) == 22
    assert found["skipped"] == {"comment (# line)": 1}


def test_texts_of_a_folder_with_labels_that_nobody_knows(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "n.txt").write_bytes(b"No\r\nfever.")
        (tmp_path / folder / "n.ann").write_text("T1\tTheirOwn 4 9\tfever\nnonsense", encoding="utf-8")
    first, second = load_texts(tmp_path)
    assert (first.id, second.id) == ("a/n", "b/n")  # as load_notes names them
    assert first.text == "No\r\nfever."
    assert first.entities == ()
    (alone,) = load_texts(tmp_path / "a" / "n.txt")
    assert alone.id == "n"


def test_texts_of_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \.txt file"):
        load_texts(tmp_path)
