"""Letters: what goes in comes out, and nothing else is read."""

from __future__ import annotations

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedmedlora.flower.messages import MAX_JSON, Letter


def test_there_and_back():
    letter = Letter({"n": 3, "x": 0.5, "t": "é", "d": {"a": [1, None]}}, {"one": b"\x00\xff", "none": b""})
    found = Letter.from_records(letter.to_records())
    assert found == letter
    assert (found.whole("n"), found.number("x"), found.text("t"), found.table("d")) == (
        3,
        0.5,
        "é",
        {"a": [1, None]},
    )
    assert found.part("one") == b"\x00\xff"


def test_a_number_that_is_none_does_not_leave():
    with pytest.raises(ValueError, match="not JSON compliant"):
        Letter({"x": float("nan")}).to_records()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": true}',
        '{"version": 2, "x": NaN}',
        '{"version": 2, "x": Infinity}',
        "[" * 100_000,
        '{"version": 2, "x": "' + "y" * MAX_JSON + '"}',
    ],
    ids=range(10),
)
def test_other_fields_are_refused(text):
    records = RecordDict({"fields": ConfigRecord({"json": text}), "parts": ArrayRecord()})
    with pytest.raises(ValueError, match=r"^message: "):
        Letter.from_records(records)


@pytest.mark.parametrize(
    "records",
    [
        {},
        {"fields": ConfigRecord({"json": '{"version": 2}'})},
        {"fields": ConfigRecord({"other": 1}), "parts": ArrayRecord()},
        {"fields": ConfigRecord({"json": 1}), "parts": ArrayRecord()},
        {"fields": ArrayRecord(), "parts": ArrayRecord()},
        {"fields": ConfigRecord({"json": '{"version": 2}'}), "parts": ConfigRecord({"a": 1})},
        {
            "fields": ConfigRecord({"json": '{"version": 2}'}),
            "parts": ArrayRecord({"a": Array("float32", (1,), "numpy.ndarray", b"x")}),
        },
    ],
    ids=range(7),
)
def test_other_records_are_refused(records):
    with pytest.raises(ValueError, match=r"^message: "):
        Letter.from_records(RecordDict(records))


@pytest.mark.parametrize("value", [None, "1", 1.0, True, -1, 2**60])
def test_a_whole_number_is_one(value):
    with pytest.raises(ValueError, match="message: n is"):
        Letter({"n": value}).whole("n")


@pytest.mark.parametrize("value", [None, "1", True, float("inf")])
def test_a_number_is_finite(value):
    with pytest.raises(ValueError, match="message: x is"):
        Letter({"x": value}).number("x")


def test_a_part_that_is_not_there():
    with pytest.raises(ValueError, match="message: lacks 'adapter'"):
        Letter({}).part("adapter")
