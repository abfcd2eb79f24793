import csv
import io

import pytest

from fedmedlora.report.study.pieces import INTERVAL, Cell, Column, Name, StudyTable, absent, named, share
from fedmedlora.report.study.table_file import csv_text, guarded


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'  =1"),
        ("＝1", "'＝1"),
        ("\t=1", "[U+0009]=1"),
        ("-", "'-"),
        ("-0.5", "-0.5"),
        ("+1e-3", "+1e-3"),
        ("lakeside", "lakeside"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_no_spreadsheet_runs_a_name(text, written):
    assert guarded(text) == written


def test_a_table_by_hand():
    columns = (
        Column("Method"),
        Column("Strict", Name("=site"), INTERVAL),
        Column("Up", unit="bytes"),
    )
    body = (
        (named('a "b", c'), share(0.1 + 0.2, (0.25, 0.5)), Cell(-3, "−3")),
        (named("new\nline"), absent(2), Cell(None, "–")),
        (named("undefined"), share(None), Cell(1.5, "2 bytes")),
    )
    text = csv_text(StudyTable("t", ("T",), columns, body, ("main",)))
    assert text.endswith("\n")
    assert list(csv.reader(io.StringIO(text))) == [
        ["Method", "'=site: Strict", "'=site: Strict, low", "'=site: Strict, high", "Up (bytes)"],
        ['a "b", c', "0.30000000000000004", "0.25", "0.5", "-3"],
        ["new[U+000A]line", "", "", "", ""],
        ["undefined", "", "", "", "1.5"],
    ]
