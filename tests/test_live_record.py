import json
import re
from dataclasses import replace

import pytest
from made_up_watch import live_record

from fedmedlora.live_record import plain, read_live, record_of, seconds_between, utc_time, write_live


def test_there_and_back(tmp_path):
    assert read_live(tmp_path) is None
    write_live(tmp_path, live_record())
    assert read_live(tmp_path) == live_record()
    assert [path.name for path in tmp_path.iterdir()] == ["live.json"]
    write_live(tmp_path, replace(live_record(), sites=()))
    assert read_live(tmp_path).sites == ()


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("format",), "x", "not version 1"),
        (("version",), 2, "not version 1"),
        (("version",), True, "version is no count"),
        (("study",), None, "study is missing"),
        (("num_rounds",), -1, "num_rounds is no count"),
        (("round_num",), 2**63, "round_num is no count"),
        (("stage",), "dancing", "stage is none of waiting for sites, "),
        (("since_utc",), "yesterday", "since_utc is no time in UTC"),
        (("sites",), {}, "sites is missing or of the wrong kind"),
        (("sites", 1), 5, r"sites\[1\]: name is missing"),
        (("sites", 1, "state"), "", r"sites\[1\]: state is none of"),
        (("sites", 1, "is_connected"), 1, r"sites\[1\]: is_connected is missing or of"),
        (("sites", 1, "seen_utc"), "x", r"sites\[1\]: seen_utc is no time"),
        (("sites", 1, "upload_bytes"), 1.5, r"sites\[1\]: upload_bytes is missing or of"),
    ],
)
def test_anything_else_is_refused_by_name(place, value, said):
    found = json.loads(json.dumps(live_record().to_json()))
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(ValueError, match=f"^live: {said}"):
        record_of(found, "live:")


@pytest.mark.parametrize("found", [None, [], 5, "x", {}])
def test_what_is_no_record(found):
    with pytest.raises(ValueError, match=re.escape("live: format is missing")):
        record_of(found, "live:")


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "live.json").write_text("{")
    with pytest.raises(ValueError, match=r"live\.json: damaged"):
        read_live(tmp_path)


def test_words():
    assert plain("a\tb\x00\u202ec\ud800") == "a b  c "
    assert plain("x" * 20, 5) == "xxxx…"
    assert plain("x" * 5, 5) == "xxxxx"
    assert plain("") == ""


def test_time():
    assert seconds_between("2026-11-29T13:59:00Z", "2026-11-29T14:00:01Z") == 61
    assert seconds_between("2026-11-29T14:00:01Z", "2026-11-29T13:59:00Z") == 0
    with pytest.raises(ValueError, match="does not match"):
        utc_time("2026-11-29T14:00:01+01:00")
