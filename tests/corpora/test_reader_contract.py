"""The laws of ``corpora/raw.py``, for every file in ``formats/``. A new format adds its sample here."""

import json
from collections.abc import Callable
from pathlib import Path

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


# name -> (how its sample is written, the notes that it can say)
SAMPLES: dict[str, tuple[Callable[[Path, bool], None], tuple]] = {
    "brat": (write_brat_sample, NOTES),
    "phee": (write_phee_sample, NOTES),
    "pubtator": (write_pubtator_sample, LINES),
    "neurotrialner": (write_neurotrialner_sample, WHOLE),
}


def test_every_format_has_a_sample() -> None:
    assert set(SAMPLES) == set(reader_names())


@pytest.mark.parametrize("name", reader_names())
def test_offsets_and_surfaces_are_exact_and_empty_notes_survive(name: str, tmp_path: Path) -> None:
    write, notes = SAMPLES[name]
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


@pytest.mark.parametrize("name", reader_names())
def test_nothing_is_dropped_in_silence(name: str, tmp_path: Path) -> None:
    write, notes = SAMPLES[name]
    write(tmp_path, True)
    for raw, (_, spans) in zip(load_reader(name)(tmp_path), notes, strict=True):
        assert {s.span for s in raw.spans} == set(spans)
        assert dict(raw.skipped) == {"surface differs from the text at its offsets": 1}


def test_an_unknown_reader_lists_the_known_ones() -> None:
    for name in ("bratt", "", "../brat", "__init__", "os"):
        with pytest.raises(ValueError, match=r"known readers: .*brat, .*phee"):
            load_reader(name)
