"""The laws of ``corpora/raw.py``, for every file in ``formats/``. A new format adds its sample here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from fedmedlora.corpora.formats import load_reader, reader_names
from fedmedlora.corpora.note import surface

# (text, spans as fragments): CR LF, tabs, non-ASCII, a byte order mark, one past the basic plane, a
# discontinuous and a nested span, and a note with nothing in it.
NOTES: tuple[tuple[str, tuple[tuple[tuple[int, int], ...], ...]], ...] = (
    ("Ünit one\r\n\tno pain.", (((14, 18),), ((11, 13),), ((0, 4), (14, 18)))),
    ("\ufeff😀 fever\tand chills", (((3, 8),), ((3, 19),))),
    ("nothing here", ()),
)
# Without discontinuous spans; and for formats that hold a text in one line, without tabs and line ends.
WHOLE = tuple((text, tuple(span for span in spans if len(span) == 1)) for text, spans in NOTES)
LINES = tuple((text.translate({9: " ", 10: " ", 13: " "}), spans) for text, spans in WHOLE)
# Spans of whole words. As a token and a tag per line says it: nothing nested, one space between words.
WORDS: tuple[tuple[str, tuple[tuple[tuple[int, int], ...], ...]], ...] = (
    ("Ünit one\r\n\tno pain .", (((14, 18),), ((11, 13),), ((0, 4),))),
    ("😀 fever\tand chills", (((2, 7),), ((2, 18),))),
    ("nothing here", ()),
)
TAGGED: tuple[tuple[str, tuple[tuple[tuple[int, int], ...], ...]], ...] = (
    ("Ünit one\nno pain .", (((12, 16),), ((9, 11),), ((0, 4),))),
    ("😀 fever and chills", (((2, 7),), ((8, 18),))),
    ("nothing here", ()),
)


def write_brat_sample(folder: Path, break_surface: bool) -> None:
    for number, (text, spans) in enumerate(NOTES):
        (folder / f"n{number}.txt").write_text(text, encoding="utf-8", newline="")
        lines = [
            f"T{i}\tX {';'.join(f'{a} {b}' for a, b in span)}\t{surface(text, span)}\n"
            for i, span in enumerate(spans)
        ]
        if break_surface:
            lines.append("T99\tX 0 1\t?\n")
        (folder / f"n{number}.ann").write_text("".join(lines), encoding="utf-8", newline="")


def write_phee_sample(folder: Path, break_surface: bool) -> None:
    records = []
    for number, (text, spans) in enumerate(NOTES):
        effect = {
            "text": [[text[a:b] for a, b in span] for span in spans],
            "start": [[a for a, _ in span] for span in spans],
        }
        if break_surface:
            effect["text"].append(["?"])
            effect["start"].append([0])
        events = [{"event_id": "E1", "event_type": "Adverse_event", "Effect": effect}]
        records.append({"id": f"n{number}", "context": text, "annotations": [{"events": events}]})
    (folder / "train.json").write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")


def write_pubtator_sample(folder: Path, break_surface: bool) -> None:
    blocks = []
    for number, (text, spans) in enumerate(LINES):
        title, _, abstract = text.partition(" ")
        lines = [f"{number}|t|{title}", f"{number}|a|{abstract}"]
        lines += [f"{number}\t{a}\t{b}\t{text[a:b]}\tX\tC1" for ((a, b),) in spans]
        lines += [f"{number}\t0\t1\t?\tX\tC1"] if break_surface else []
        blocks.append("\r\n".join(lines))
    (folder / "a.txt").write_text("\r\n\r\n".join(blocks), encoding="utf-8", newline="")


def write_neurotrialner_sample(folder: Path, break_surface: bool) -> None:
    records = []
    for number, (text, spans) in enumerate(WHOLE):
        entities = [{"start": a, "end": b, "text": text[a:b], "type": "X"} for ((a, b),) in spans]
        entities += [{"start": 0, "end": 1, "text": "?", "type": "X"}] if break_surface else []
        records.append({"nctid": f"n{number}", "text": text, "entities": entities})
    (folder / "train.json").write_text(json.dumps(records), encoding="utf-8")


def write_iob_sample(folder: Path, break_surface: bool) -> None:
    assert not break_surface
    lines = []
    for number, (text, spans) in enumerate(TAGGED):
        lines.append(f"-DOCSTART-\tn{number}\tO\n")
        tags = {a: ("B-X", b) for ((a, b),) in spans}
        at, until = 0, 0
        for sentence in text.split("\n"):
            for token in sentence.split(" "):
                tag, until = tags.get(at, ("I-X" if at < until else "O", until))
                lines.append(f"{token}\tNN\t{tag}")
                at += len(token) + 1
            lines.append("")
    (folder / "a.tsv").write_text("\r\n".join(lines), encoding="utf-8", newline="")


def bioc(folder: Path, break_surface: bool) -> list[dict[str, Any]]:
    documents = []
    for number, (text, spans) in enumerate(NOTES):
        found = [(surface(text, span), span) for span in spans] + (
            [("?", ((0, 1),))] if break_surface else []
        )
        annotations = [
            {"id": f"{i}", "infons": {"type": "X"}, "text": shown,
             "locations": [{"offset": a, "length": b - a} for a, b in span]}
            for i, (shown, span) in enumerate(found)
        ]  # fmt: skip
        passage = {"offset": 0, "infons": {}, "text": text, "sentences": [], "relations": []}
        passage["annotations"] = annotations
        documents.append({"id": f"n{number}", "infons": {}, "passages": [passage], "relations": []})
    return documents


def write_bioc_json_sample(folder: Path, break_surface: bool) -> None:
    collection = {"source": "", "date": "", "key": "", "infons": {}, "documents": bioc(folder, break_surface)}
    (folder / "a.json").write_text(json.dumps(collection), encoding="utf-8")


def write_bioc_xml_sample(folder: Path, break_surface: bool) -> None:
    def shown(text: str) -> str:
        return escape(text, {"\r": "&#13;"})

    lines = ['<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE collection SYSTEM "BioC.dtd"><collection>',
             "<source/><date/><key/>"]  # fmt: skip
    for document in bioc(folder, break_surface):
        (passage,) = document["passages"]
        lines.append(f"<document><id>{document['id']}</id><passage><offset>0</offset>")
        lines.append(f"<text>{shown(passage['text'])}</text>")
        for a in passage["annotations"]:
            lines.append(f"<annotation id='{a['id']}'><infon key='type'>X</infon>")
            lines += [f"<location offset='{p['offset']}' length='{p['length']}'/>" for p in a["locations"]]
            lines.append(f"<text>{shown(a['text'])}</text></annotation>")
        lines.append("</passage></document>")
    (folder / "a.xml").write_text("\n".join([*lines, "</collection>"]), encoding="utf-8")


def write_i2b2_2010_sample(folder: Path, break_surface: bool) -> None:
    for number, (text, spans) in enumerate(WORDS):
        (folder / f"n{number}.txt").write_text(text, encoding="utf-8", newline="")
        lines = []
        for ((a, b),) in spans:
            line = text.count("\n", 0, a)
            before = text.split("\n")[line][: a - len("\n".join(text.split("\n")[:line])) - (line > 0)]
            first = len(before.split())
            last = first + len(text[a:b].split()) - 1
            lines.append(f'c="{text[a:b].lower()}" {line + 1}:{first} {line + 1}:{last}||t="X"\n')
        lines += ['c="?" 1:0 1:0||t="Y"\n'] if break_surface else []
        (folder / f"n{number}.con").write_text("".join(lines), encoding="utf-8")


def write_fl_llm_med_sample(folder: Path, break_surface: bool) -> None:
    records = []
    for text, spans in WHOLE:
        output = [[text[a:b], "X"] for ((a, b),) in spans] + ([["?", "X"]] if break_surface else [])
        records.append({"input": text, "output": output})
    (folder / "train.json").write_text(json.dumps({"data": records}), encoding="utf-8")


DIFFERS = "surface differs from the text at its offsets"
# name -> (how its sample is written, the notes that it can say, why a wrong surface is left out, "" where the
# format has no surfaces)
SAMPLES: dict[str, tuple[Callable[[Path, bool], None], tuple, str]] = {
    "bioc_json": (write_bioc_json_sample, NOTES, DIFFERS),
    "bioc_xml": (write_bioc_xml_sample, NOTES, DIFFERS),
    "brat": (write_brat_sample, NOTES, DIFFERS),
    "fl_llm_med": (write_fl_llm_med_sample, WHOLE, "surface is not in the sentence"),
    "i2b2_2010": (write_i2b2_2010_sample, WORDS, DIFFERS),
    "iob": (write_iob_sample, TAGGED, ""),
    "neurotrialner": (write_neurotrialner_sample, WHOLE, DIFFERS),
    "phee": (write_phee_sample, NOTES, DIFFERS),
    "pubtator": (write_pubtator_sample, LINES, DIFFERS),
}


def test_every_format_has_a_sample() -> None:
    assert set(SAMPLES) == set(reader_names())


@pytest.mark.parametrize("name", reader_names())
def test_offsets_and_surfaces_are_exact_and_empty_notes_survive(name: str, tmp_path: Path) -> None:
    write, notes, _ = SAMPLES[name]
    write(tmp_path, False)
    raws = load_reader(name)(tmp_path)
    assert len(raws) == len(notes)
    for raw, (text, spans) in zip(raws, notes, strict=True):
        assert raw.text == text
        assert {s.span for s in raw.spans} == set(spans)
        assert all(0 <= a < b <= len(text) for s in raw.spans for a, b in s.span)
        assert len({s.id for s in raw.spans}) == len(raw.spans)
        assert sum(raw.skipped.values()) == 0
        assert text not in repr(raw)


@pytest.mark.parametrize("name", [name for name, sample in SAMPLES.items() if sample[2]])
def test_nothing_is_dropped_in_silence(name: str, tmp_path: Path) -> None:
    write, notes, reason = SAMPLES[name]
    write(tmp_path, True)
    for raw, (_, spans) in zip(load_reader(name)(tmp_path), notes, strict=True):
        assert {s.span for s in raw.spans} == set(spans)
        assert dict(raw.skipped) == {reason: 1}


def test_an_unknown_reader_lists_the_known_ones() -> None:
    for name in ("bratt", "", "../brat", "__init__", "os"):
        with pytest.raises(ValueError, match=r"known readers: .*brat, .*phee"):
            load_reader(name)
