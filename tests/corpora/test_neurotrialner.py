"""NeuroTrialNER's records, and what is damaged in them."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedmedlora.corpora.formats.neurotrialner import read

ENTITY = {"start": 3, "end": 8, "text": "fever", "type": "CONDITION"}
RECORD = {"nctid": "NCT1", "text": "No fever.", "entities": [ENTITY, ENTITY]}


def write(path: Path, *records: object) -> None:
    path.write_text(json.dumps(records), encoding="utf-8")


def test_a_record(tmp_path: Path) -> None:
    write(tmp_path / "dev.json", RECORD, {**RECORD, "nctid": "NCT2", "entities": []})
    first, second = read(tmp_path)
    assert (first.name, first.text, first.folders) == ("NCT1", "No fever.", ("dev",))
    assert [(s.label, s.span) for s in first.spans] == [("CONDITION", ((3, 8),))]
    assert first.skipped == {"same span and type again": 1}
    assert second.spans == ()


@pytest.mark.parametrize(
    "record",
    [
        7,
        {"nctid": "NCT1", "text": "Secret"},
        {**RECORD, "text": 3},
        {**RECORD, "text": "Secret\ud800"},
        {**RECORD, "entities": [{**ENTITY, "start": "3"}]},
        {**RECORD, "entities": [{**ENTITY, "end": 99, "text": "Secret"}]},
        {**RECORD, "entities": [{**ENTITY, "start": 8}]},
    ],
)
def test_damages_are_named_and_not_shown(record: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.json", RECORD, record)
    with pytest.raises(ValueError, match=r"a\.json: record 2") as error:
        read(tmp_path)
    assert "Secret" not in str(error.value)


@pytest.mark.parametrize("content", ["[", "{}", "[" + "9" * 5001 + "]", "[" * 100_000])
def test_files_that_are_not_it(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=r"a\.json"):
        read(tmp_path)
