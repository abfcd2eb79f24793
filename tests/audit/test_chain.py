"""Whatever is done to a log is found, and named: any byte, any line."""

from __future__ import annotations

import hashlib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora.audit.canonical import canonical
from fedmedlora.audit.chain import MOST_BYTES, link, read_line, verify
from fedmedlora.audit.entries import Fault, Head, Opened, Repaired

H, TIME = "ab" * 32, "2026-11-29T13:36:00Z"


def split(data: bytes) -> list[bytes]:
    return list(io.BytesIO(data))


def said(lines, head=None) -> list[tuple[int, str]]:
    return [(one.line, one.what) for one in verify(lines, head).problems]


@pytest.fixture(scope="module")
def log(every_kind, lines_of_log) -> list[bytes]:
    """One entry of each kind: 14 lines."""
    return lines_of_log(every_kind)


@pytest.fixture(scope="module")
def short(lines_of_log) -> list[bytes]:
    """Four lines."""
    opened = Opened("fedmedlora-audit", 1, "cd" * 16)
    return lines_of_log([opened, Repaired(1, H), Repaired(2, H), Repaired(3, H)])


def test_a_line_as_worked_by_hand():
    line, head = link(Repaired(3, H), Head("12" * 32, 6), TIME)
    rest = f'"kind":"repaired","previous":"{"12" * 32}","sequence":7,"time":"{TIME}"}}'
    body = f'{{"body":{{"num_bytes":3,"sha256":"{H}"}},'
    own = hashlib.sha256((body + rest).encode()).hexdigest()
    assert line == f'{body}"hash":"{own}",{rest}\n'.encode()
    assert head == Head(own, 7)


def test_a_whole_log_is_whole(log):
    found = verify(log)
    assert found.problems == ()
    assert (found.num_entries, found.log_id, found.known_at) == (14, "cd" * 16, 0)
    assert found.head == read_line(log[-1]).head
    assert [read_line(line).sequence for line in log] == list(range(1, 15))


def test_any_head_that_it_had_is_known(log):
    for number, line in enumerate(log, start=1):
        head = read_line(line).head
        assert verify(log, head).known_at == number
        assert verify(log, head.hash).known_at == number
        assert not verify(log, head).problems


def test_any_byte_that_changes_is_found(short):
    """Every byte of a log, three ways each: another letter or digit, a bit, and none at all."""
    data = b"".join(short)
    for place in range(len(data)):
        for other in (bytes([data[place] ^ 1]), bytes([data[place] ^ 0x20]), b""):
            changed = data[:place] + other + data[place + 1 :]
            assert said(split(changed)), (place, other)


@given(st.data())
def test_whatever_is_done_to_the_lines_is_found(log, data):
    """Lines removed, repeated, swapped, forged, bytes put in, the end cut off: one to three of these."""
    head = read_line(log[-1]).head
    lines = list(log)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, max(0, len(lines) - 1)))
        other = data.draw(st.integers(0, len(lines)))
        what = data.draw(st.sampled_from(("remove", "repeat", "swap", "insert", "bytes", "cut")))
        if what == "remove":
            del lines[place : place + 1]
        elif what == "repeat" and lines:
            lines.insert(other, lines[place])
        elif what == "swap" and lines and other < len(lines):
            lines[place], lines[other] = lines[other], lines[place]
        elif what == "insert":
            lines.insert(other, link(Repaired(9, H), Head(H, other + 1), TIME)[0])
        elif what == "bytes":
            blob = bytearray(b"".join(lines))
            at = data.draw(st.integers(0, len(blob)))
            blob[at:at] = data.draw(st.binary(min_size=1, max_size=3))
            lines = split(bytes(blob))
        elif what == "cut":
            blob = b"".join(lines)
            lines = split(blob[: data.draw(st.integers(0, len(blob)))])
    is_changed = b"".join(lines) != b"".join(log)
    assert bool(said(lines, head)) == is_changed
    # Without a head, nothing but a log that ends earlier, at the end of a line, goes unnoticed.
    is_prefix = bool(lines) and b"".join(lines) == b"".join(log[: len(lines)])
    assert bool(said(lines)) == (not is_prefix)


def test_what_is_said_of_each(short):
    one, two, three, four = short
    assert said([one, three, four]) == [(2, "entry 2 is missing before it")]
    assert said([one, four]) == [(2, "entries 2 to 3 are missing before it")]
    assert said([two, three, four]) == [(1, "the log begins with entry 2: those before it are missing")]
    out = "out of place: entry 2 behind entry {}; inserted, repeated or moved"
    assert said([one, two, two, three, four]) == [(3, out.format(2))]
    assert said([one, three, two, four]) == [(2, "entry 2 is missing before it"), (3, out.format(3))]
    assert said([one, two, one, three]) == [(3, "another log begins here")]
    assert said([]) == [(1, "the log is empty: it holds no entry")]
    changed = three.replace(b'"num_bytes":2', b'"num_bytes":7')
    assert said([one, two, changed, four]) == [(3, "changed: its hash is not that of what it holds")]
    ((line, what),) = said([one, two, three, four[:-1]])
    assert line == 4
    assert what.startswith("unfinished")
    ((line, what),) = said([one, two, b"{}\n", four])
    assert (line, what[:30]) == (3, "not an entry: it must hold exa")


def test_an_entry_with_a_hash_of_its_own_is_found_at_the_next(short):
    """Somebody who knows the format changes one entry and computes its hash anew."""
    one, two, _, four = short
    forged, _ = link(Repaired(7, H), read_line(two).head, TIME)
    assert said([one, two, forged, four]) == [
        (4, "it does not follow the line before it: one of the two is not what was written")
    ]
    # The last entry has none behind it: that takes a head.
    last, _ = link(Repaired(7, H), read_line(short[2]).head, TIME)
    assert said([*short[:3], last]) == []
    head = read_line(four).head
    assert said([*short[:3], last], head) == [
        (4, "entry 4 is not the one whose hash is known: the log was written anew")
    ]


def test_a_cut_off_end_takes_a_head(short):
    head = read_line(short[-1]).head
    assert said(short[:2]) == []
    assert said(short[:2], head) == [(2, "the log once had 4 entries and ends at 2: its end was cut off")]
    assert said(short[:2], head.hash) == [
        (2, "no entry has the hash that is known: the end was cut off, or the log was written anew")
    ]
    assert said([], head)[1] == (1, "the log once had 4 entries and ends at 0: its end was cut off")
    assert said(short, Head(head.hash, 3)) == [
        (4, "entry 3 is not the one whose hash is known: the log was written anew")
    ]


def test_a_log_written_anew_is_whole_and_not_the_one_that_was_known(every_kind, lines_of_log):
    known = read_line(lines_of_log(every_kind)[5]).head
    anew = lines_of_log([every_kind[0], *every_kind[2:]])
    assert said(anew) == []
    assert len(said(anew, known)) == 1


def forged(kind, body, previous="0" * 64, sequence=1) -> bytes:
    content = {"body": body, "kind": kind, "previous": previous, "sequence": sequence, "time": TIME}
    own = hashlib.sha256(canonical(content)).hexdigest()
    return canonical({**content, "hash": own}) + b"\n"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("note", {"text": "Mr Doe has a fever"}),
        ("repaired", {"num_bytes": 3, "sha256": H, "text": "Mr Doe has a fever"}),
        ("repaired", {"num_bytes": 3, "sha256": "Mr Doe has a fever"}),
        ("repaired", {"num_bytes": 3}),
        ("repaired", []),
        (3, {}),
    ],
)
def test_an_entry_of_another_sort_is_found_though_its_hashes_are_right(short, kind, body):
    line = forged(kind, body, read_line(short[3]).hash, 5)
    ((number, what),) = said([*short, line])
    assert number == 5
    assert "Doe" not in what


def test_how_a_log_may_not_begin(short):
    ((_, what),) = said([forged("repaired", {"num_bytes": 3, "sha256": H})])
    assert what == "not how a log begins"
    ((_, what),) = said([forged("log", {"format": "fedmedlora-audit", "version": 2, "log_id": "cd" * 16})])
    assert what.startswith("log: version")
    ((_, what),) = said([forged("log", {"format": "x", "version": 1, "log_id": "cd" * 16})])
    assert what.startswith("log: format")
    body = {"format": "fedmedlora-audit", "version": 1, "log_id": "cd" * 16}
    assert said([forged("log", body, previous=H)]) == [(1, "not how a log begins")]


def test_hostile_files_are_no_trouble(short):
    for junk in (
        b"\0" * 5000 + b"\n",
        b"[" * 100_000 + b"\n",
        b"\xff\n",
        b"\n",
        b"null\n",
        b"1\n",
        b"x" * (MOST_BYTES + 1),
    ):
        assert said([junk])
        assert said([short[0], junk, short[1]])[0][0] == 2
    assert len(verify([b"x\n"] * 5000).problems) == 101
    content = json.loads(short[1])
    for key, value in (("sequence", 0), ("sequence", True), ("time", "now"), ("hash", 3), ("previous", None)):
        changed = {**content, key: value}
        assert said([short[0], canonical(changed) + b"\n"])


def test_an_entry_that_is_too_long_is_not_written(monkeypatch):
    monkeypatch.setattr("fedmedlora.audit.chain.MOST_BYTES", 300)
    with pytest.raises(ValueError, match="of kind fault takes 3"):
        link(Fault("failed", "", "a" * 40, "", "B" * 40), Head(H, 1), TIME)
