import json
from pathlib import Path

import pytest

from fedmedlora.corpora.convert import convert

#       0123456789012345678901234567890123456789012345
TEXT = "Severe rash and fever after oral drugA or drugB"
EVENT = {
    "event_id": "E1",
    "event_type": "Adverse_event",
    "Trigger": {"text": [["after"]], "start": [[22]]},
    "Treatment": {
        "text": [["oral drugA or drugB"]],
        "start": [[28]],
        "Drug": {"text": [["drugA"], ["drugB"]], "start": [[33], [42]]},
        "Route": {"text": [["oral"]], "start": [[28]]},
        "Combination": [
            {
                "event_id": "E2",
                "event_type": "Combination",
                "Trigger": {"text": [["or"]], "start": [[39]]},
                "Drug": {"text": [["drugB"], ["drugA"]], "start": [[42], [33]]},
            }
        ],
    },
    "Effect": {"text": [["rash"], ["Severe", "fever"]], "start": [[7], [0, 16]]},
    "Severity": {"text": [["Severe"]], "start": [[0]], "value": "High"},
}


def write(folder: Path, *events: object, **changes: object) -> Path:
    record = {"id": "12_3", "context": TEXT, "annotations": [{"events": list(events)}], **changes}
    (folder / "dev.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
    return folder


def test_spans_shared_by_events_count_once(tmp_path: Path) -> None:
    # The same event twice: nothing is added.
    (note,) = convert("phee", write(tmp_path, EVENT, EVENT)).notes
    assert sorted((e.type, e.span) for e in note.entities) == [
        ("drug", ((33, 38),)),
        ("drug", ((42, 47),)),
        ("problem", ((0, 6), (16, 21))),
        ("problem", ((7, 11),)),
    ]
    assert sorted(m.type for m in note.modifiers) == ["route", "severity"]
    assert len(note.links) == 4  # two drugs with one route, two effects with one severity
    assert (note.id, note.group, note.meta) == ("12_3", "12", {"part": "dev"})


def test_a_sentence_without_events_is_a_note(tmp_path: Path) -> None:
    (note,) = convert("phee", write(tmp_path)).notes
    assert note.entities == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": 3}, "dev.json:1: not a PHEE record"),
        ({"annotations": [{"events": [{}]}]}, "not a PHEE record"),
        (
            {"annotations": [{"events": [{**EVENT, "Effect": {"text": [["x"]], "start": [[47]]}}]}]},
            "offsets 47",
        ),
        ({"annotations": [{"events": [{**EVENT, "Effect": {"text": [["x"]], "start": [[]]}}]}]}, "different"),
        ({"annotations": [{"events": [{**EVENT, "Efect": EVENT["Effect"]}]}]}, "unknown label 'Efect'"),
    ],
)
def test_bad_records_name_file_and_line(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert("phee", write(tmp_path, **changes))


def test_not_json(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("\n{\n")
    with pytest.raises(ValueError, match=r"x\.json:2: not JSON at character 1"):
        convert("phee", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no \.json file"):
        convert("phee", tmp_path / "empty")
