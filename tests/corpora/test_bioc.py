"""BioC: passages, sentences, relations, and files that are not what they should be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmedlora.corpora.formats import bioc_json, bioc_xml

EMPTY: dict[str, Any] = {"infons": {}, "annotations": [], "relations": []}


def annotation(name: str, begin: int, text: str, **infons: str) -> dict[str, Any]:
    places = [{"offset": begin, "length": len(text)}]
    return {"id": name, "infons": {"type": "X", **infons}, "text": text, "locations": places}


def relation(kind: str, *nodes: tuple[str, str]) -> dict[str, Any]:
    return {
        "id": "R1",
        "infons": {"type": kind},
        "nodes": [{"refid": ref, "role": role} for ref, role in nodes],
    }


def passage(offset: int, text: str | None, *sentences: dict[str, Any], **parts: Any) -> dict[str, Any]:
    own = {} if text is None else {"text": text}
    return {**EMPTY, "offset": offset, **own, "sentences": list(sentences), **parts}


def document(*passages: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {**EMPTY, "id": "d", "passages": list(passages), **parts}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[Any, ...]]:
    def read(*documents: dict[str, Any]) -> tuple[Any, ...]:
        found = {"source": "", "date": "", "key": "", "infons": {}, "documents": list(documents)}
        (tmp_path / "a.json").write_text(json.dumps(found), encoding="utf-8")
        return bioc_json.read(tmp_path)

    return read


def test_passages_stand_at_their_offsets(read) -> None:
    title = passage(100, "Title", annotations=[annotation("0", 100, "Title")])
    # The same id again: ids need only be unique in their passage.
    body = passage(107, "Body text", annotations=[annotation("0", 112, "text")])
    (note,) = read(document(body, title, infons={"group": "p1"}))
    assert note.text == "Title\n\nBody text"
    assert sorted(s.span for s in note.spans) == [((0, 5),), ((12, 16),)]
    assert (note.name, note.group, note.folders) == ("d", "p1", ("a",))


def test_sentences_are_the_text_where_the_passage_has_none(read) -> None:
    first = {**EMPTY, "offset": 3, "text": "No fever.", "annotations": [annotation("0", 6, "fever")]}
    second = {**EMPTY, "offset": 14, "text": "Well."}
    (note,) = read(document(passage(3, None, first, second)))
    assert note.text == "No fever.  Well."
    assert note.spans[0].span == ((3, 8),)


def test_relations(read) -> None:
    found = [annotation("a", 0, "No"), annotation("b", 3, "fever", code="D1")]
    links = [
        relation("L", ("b", "Arg2"), ("a", "Arg1")),
        relation("M", ("b", "x"), ("a", "y")),
        relation("N", ("a", "x"), ("b", "y"), ("b", "z")),
        relation("O", ("R1", "x"), ("b", "y")),
    ]
    (note,) = read(document(passage(0, "No fever", annotations=found, relations=links)))
    a, b = (s.id for s in note.spans)
    assert [(r.label, r.source, r.target) for r in note.relations] == [("L", a, b), ("M", b, a)]
    assert [(e.label, e.trigger, e.roles) for e in note.events] == [("N", "", (("x", a), ("y", b), ("z", b)))]
    assert [(x.label, x.target, x.value) for x in note.attributes] == [("code", b, "D1")]
    assert note.skipped == {"relation O: names no annotation (another relation?)": 1}


def test_a_document_names_what_stands_in_its_passages(read) -> None:
    places = passage(0, "No fever", annotations=[annotation("a", 0, "No"), annotation("b", 3, "fever")])
    (note,) = read(document(places, relations=[relation("L", ("a", "Arg1"), ("b", "Arg2"))]))
    assert len(note.relations) == 1
    twice = passage(9, "x", annotations=[annotation("a", 9, "x")])
    with pytest.raises(ValueError, match=r"a\.json: document 1: relation 1: several annotations have the id"):
        read(document(places, twice, relations=[relation("L", ("a", "Arg1"), ("b", "Arg2"))]))


def test_a_passage_names_its_own_first(read) -> None:
    def one(begin: int) -> dict[str, Any]:
        found = [annotation("a", begin, "No"), annotation("b", begin + 3, "fever")]
        link = relation("L", ("b", "Arg1"), ("a", "Arg2"))
        return passage(begin, "No fever", annotations=found, relations=[link])

    (note,) = read(document(one(0), one(9)))
    at = {s.id: s.span[0][0] for s in note.spans}
    assert [(at[r.source], at[r.target]) for r in note.relations] == [(3, 0), (12, 9)]


def test_infons_of_json_keep_what_they_say(read) -> None:
    found = {**annotation("a", 0, "No"), "infons": {"type": "X", "sure": False, "level": 0, "code": None}}
    (note,) = read(document(passage(0, "No", annotations=[found])))
    assert {a.label: a.value for a in note.attributes} == {"sure": "false", "level": "0", "code": ""}


def test_what_a_relation_says_beyond_its_nodes_is_counted(read) -> None:
    found = [annotation("a", 0, "No"), annotation("b", 3, "fever")]
    full = relation("L", ("a", "Arg1"), ("b", "Arg2"))
    full["infons"]["score"] = "0.9"
    (note,) = read(document(passage(0, "No fever", annotations=found, relations=[full, relation("M")])))
    assert dict(note.skipped) == {"infon of a relation": 1, "relation without a node": 1}


def test_what_is_left_out_is_counted_with_its_links(read) -> None:
    found = [
        annotation("a", 0, "Yes"),
        annotation("b", 3, "fever"),
        {**annotation("c", 0, "No"), "locations": []},
    ]
    links = [relation("L", ("b", "Arg1"), ("a", "Arg2"))]
    (note,) = read(document(passage(0, "No fever", annotations=found, relations=links)))
    assert dict(note.skipped) == {
        "surface differs from the text at its offsets": 1,
        "annotation without a location": 1,
    }
    assert note.relations[0].target in note.lost


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (document(passage(0, "long title"), passage(5, "x")), "offset 5 begins before the end"),
        (document(passage(0, "a"), passage(10**9, "x")), "far past the end"),
        (document(passage(0, "a", annotations=[annotation("0", 1, "bc")])), "annotation 1: offsets 1 to 3"),
        (document(passage(5, "a", annotations=[annotation("0", 4, "a")])), "annotation 1: offsets 4 to 5"),
        (document(passage(0, "a", annotations=[{**annotation("0", 0, "a"), "infons": {}}])), 'infon "type"'),
        (document(passage("0", "a")), "whole number as offset"),  # type: ignore[arg-type]
        (document(passage(0, 7)), "text of a passage is 7"),  # type: ignore[arg-type]
        (document(passage(0, "a\ud800")), "half a character"),
        (document(*(passage(i * 600_000, "a") for i in range(3))), "far past the end"),
        (document({"offset": 0}), r"document 1: not BioC \(no 'infons'\)"),
        ({"documents": 3}, "not BioC"),
        (document(passage(0, "a"), infons=[]), "document 1: infons must be an object"),
        (
            document(passage(0, "a", annotations=[{**annotation("0", 0, "a"), "infons": 3}])),
            "document 1: annotation 1: infons must be an object",
        ),
        (
            document(passage(0, "a", annotations=[{**annotation("0", 0, "a"), "text": 3}])),
            "document 1: annotation 1: text is 3",
        ),
        (
            document(passage(0, "a"), relations=[{**relation("L"), "infons": "x"}]),
            "document 1: relation 1: infons must be an object",
        ),
    ],
)
def test_damages_are_named(broken: dict[str, Any], message: str, read) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read(broken)
    assert "a.json" in str(error.value)


def test_a_list_of_collections(tmp_path: Path) -> None:
    one = {"source": "", "date": "", "key": "", "infons": {}, "documents": [document(passage(0, "a"))]}
    (tmp_path / "a.json").write_text(json.dumps([one, one]), encoding="utf-8")
    assert [note.text for note in bioc_json.read(tmp_path)] == ["a", "a"]


PASSAGE = "<passage><offset>0</offset>{}</passage>"
XML = f"<collection><source/><date/><key/><document><id>d</id>{PASSAGE}</document></collection>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<collection>", r"a\.xml:1: not XML"),
        (XML.format("").replace("<offset>0</offset>", ""), r"a\.xml: document 1: not BioC"),
        (XML.format("").replace(">0<", ">secret<"), r"a\.xml: document 1: not BioC"),
        (XML.format("<annotation/>"), r"a\.xml: document 1: not BioC"),
        (XML.format("<text>a <b>secret</b></text>"), r"a\.xml:1: <text> holds elements"),
        ("<html><collection/></html>", "outermost element"),
        (XML.format("").replace("<collection>", '<collection xmlns="x">'), "no namespace"),
        ('<!DOCTYPE c [<!ENTITY a "secret">]>' + XML.format("<text>&a;</text>"), "declares XML entities"),
        ('<!DOCTYPE c [<!ENTITY a SYSTEM "/etc/hostname">]>' + XML.format("<text>&a;</text>"), "entities"),
    ],
)
def test_xml_that_is_not_it(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        bioc_xml.read(tmp_path)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "utf-16"])
def test_xml_says_its_own_encoding(encoding: str, tmp_path: Path) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?>' + XML.format("<text>Übelkeit</text>")
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    assert bioc_xml.read(tmp_path)[0].text == "Übelkeit"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-7"])
def test_entities_hide_in_no_encoding(encoding: str, tmp_path: Path) -> None:
    head = f'<?xml version="1.0" encoding="{encoding}"?>'
    text = '<!DOCTYPE c [<!ENTITY a "x">]>' + XML.format("<text>&a;</text>")
    content = (head + text).encode(encoding) if encoding == "utf-16" else head.encode() + text.encode("utf-7")
    (tmp_path / "a.xml").write_bytes(content)
    with pytest.raises(ValueError, match="declares XML entities"):
        bioc_xml.read(tmp_path)


def test_comments_are_no_end_of_a_text(tmp_path: Path) -> None:
    text = XML.format("<text>He took <!-- x --> aspirin<?x y?>.\r\n</text>").replace("\r", "&#13;")
    (tmp_path / "a.xml").write_text(text, encoding="utf-8", newline="")
    assert bioc_xml.read(tmp_path)[0].text == "He took  aspirin.\r\n"


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    import importlib

    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ValueError, match=r'pip install "fedmedlora\[bioc\]"'):
        bioc_xml.read(tmp_path)
