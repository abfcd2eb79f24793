"""Answers that are not what was asked for, one by one, on the way that every answer takes at the coordinator.

Reading (``grid_sites.read_update``) and admission (``security/admission.py``) let none of them in, say why in
words that repeat nothing of theirs, and take no more memory than what was sent. ``test_quorum.py`` shows
that a round goes on without them; questions to sites, bundles and logs have tests of their own.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tracemalloc
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pytest

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.exchange import Exchange
from fedmedlora.exchange.sent_update import send_update
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.exchange.wire import pack
from fedmedlora.flower.answers import basis
from fedmedlora.flower.asking import plain
from fedmedlora.flower.grid_sites import read_update
from fedmedlora.flower.messages import Letter
from fedmedlora.flower.site_work import UPDATE, UPDATE_HASH
from fedmedlora.security.admission import Basis, Bounds, admit, admit_basis, admit_norm
from fedmedlora.security.change_norm import change_norm
from fedmedlora.sites import Errand

A, B = "layers.0.q.lora_A.weight", "layers.0.q.lora_B.weight"
RNG = np.random.default_rng(7)
START = Adapter({A: RNG.normal(size=(2, 6)).astype("f4"), B: RNG.normal(size=(5, 2)).astype("f4")})
MOVED = {name: array + np.float32(0.01) for name, array in START.arrays.items()}
MARK = "Jane Doe has"
TEN_GB = [2, 1_342_177_280]  # of float32
BOUNDS = Bounds(max_norm=10.0)
BASIS = Basis(*(letter * 64 for letter in "abcd"))


def update(arrays=None, *, site="lakeside", round_num=2, started_from=None, num=9) -> SiteUpdate:
    return SiteUpdate(site, round_num, Adapter(arrays or MOVED), started_from or START.hash(), num)


def letter(data: bytes, **fields) -> Letter:
    told = {UPDATE_HASH: hashlib.sha256(data).hexdigest(), "basis": asdict(BASIS), **fields}
    return Letter(told, {UPDATE: data})


def let_in(answer: Letter, exchange: Exchange | None = None) -> SiteUpdate:
    """As ``GridSites.train`` and ``Participants.train`` do with the answer of lakeside in round 2."""
    found = read_update("lakeside", answer, START, Errand("m", exchange=exchange or Exchange()))
    admit(found, site="lakeside", round_num=2, started_from=START.hash(), shapes=START.shapes())
    admit_basis(basis("lakeside", answer), BASIS)
    admit_norm(change_norm(START, found.adapter), [], BOUNDS)
    return found


GOOD = update().to_bytes()


def raw(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def record(**changes) -> dict:
    own = {"format": "fedmedlora-update", "version": 1, "site": "lakeside", "round_num": 2,
           "started_from": START.hash(), "num_target_tokens": 9}  # fmt: skip
    return {key: value for key, value in (own | changes).items() if value is not ...}


def with_value(value: float) -> Iterator[tuple[str, bytes]]:
    for name in MOVED:
        for place in (0, -1):
            arrays = {n: a.copy() for n, a in MOVED.items()}
            arrays[name].reshape(-1)[place] = value
            yield f"{value} in {name[9:]} at {place}", update(arrays).to_bytes()


def cases() -> Iterator[tuple[str, Letter]]:
    for value in (np.nan, np.inf, -np.inf, 1e30, -1e38):
        for name, data in with_value(value):
            yield name, letter(data)
    a, b = MOVED[A], MOVED[B]
    shapes = {
        "rank 3": {A: np.zeros((3, 6), "f4"), B: np.zeros((5, 3), "f4")},
        "rank 1": {A: a[:1], B: b[:, :1]},
        "rank 0": {A: np.zeros((0, 6), "f4"), B: np.zeros((5, 0), "f4")},
        "turned": {A: a.T, B: b.T},
        "flat": {A: a.reshape(-1), B: b},
        "deep": {A: a.reshape(1, 2, 6), B: b},
        "exchanged": {A: b, B: a},
        "A alone": {A: a},
        "B alone": {B: b},
        "one more": {A: a, B: b, MARK: a},
        "another name": {A + ".x": a, B: b},
        "a path": {"../../etc/passwd": a, B: b},
        "a script": {"<script>alert(1)</script>": a, B: b},
        "control characters": {"\x1b[2J\r\n": a, B: b},
        "scaled": {A: a * 1e4, B: b * 1e4},
        "sign of one factor": {A: -a * 50, B: b},
    }
    for name, arrays in shapes.items():
        yield name, letter(update(arrays).to_bytes())
    for round_num in (1, 3, 2**53):
        yield f"of round {round_num}", letter(update(round_num=round_num).to_bytes())
    for site in ("northgate", "Lakeside", "lakeside2"):
        yield f"in the name of {site}", letter(update(site=site).to_bytes())
    yield "from another adapter", letter(update(started_from="0" * 64).to_bytes())

    fields = {
        "site": ("../x", "", "a/b", "x" * 65, 7, None, ["lakeside"], "<b>", ".", ...),
        "round_num": (0, -1, 1.5, "2", True, None, 10**400, ...),
        "started_from": ("", "g" * 64, "A" * 64, 5, None, ...),
        "num_target_tokens": (-1, 2**54, 0.5, "9", None, False, 10**300, ...),
        "format": ("fedmedlora-adapter", "", None, ...),
        "version": (0, 2, "1", None, ...),
        MARK: ("more",),
    }
    for key, values in fields.items():
        for value in values:
            yield f"record {key[:12]} {str(value)[:24]!r}", letter(pack(MOVED, record(**{key: value})))

    whole, body = json.loads(GOOD[8 : 8 + int.from_bytes(GOOD[:8], "little")]), GOOD[-88:]
    entry = whole[A]
    changed = {
        "float64": {"dtype": "F64"}, "float16": {"dtype": "F16"}, "bfloat16": {"dtype": "BF16"},
        "int32": {"dtype": "I32"}, "no dtype": {"dtype": None}, "a claim of 10 GB": {"shape": TEN_GB},
        "a claim of 10 GB and its offsets": {"shape": TEN_GB, "data_offsets": [0, 10_737_418_240]},
        "a negative size": {"shape": [-2, 6]}, "a size of text": {"shape": ["2", 6]},
        "an overflow": {"shape": [2**32, 2**32]}, "offsets that overlap": {"data_offsets": [0, 88]},
        "offsets from behind": {"data_offsets": [48, 0]}, "offsets beyond": {"data_offsets": [0, 10**12]},
        "no offsets": {"data_offsets": None},
    }  # fmt: skip
    for name, change in changed.items():
        yield name, letter(raw(whole | {A: entry | change}, body))
    headers = {
        "no header": b"", "no JSON": b"{", "a list": b"[]", "a number": b"1", "null": b"null",
        "not UTF-8": b"\xff\xfe{}", "deep": b"[" * 100_000, "twice": b'{"a":1,"a":2}',
        "an array as text": json.dumps(whole | {A: MARK}).encode(),
    }  # fmt: skip
    for name, text in headers.items():
        yield f"header: {name}", letter(raw(text, body))
    for length in (2**63, 2**64 - 1, 10 * 2**30, len(GOOD), len(GOOD) - 7):
        yield f"a header of {length} bytes", letter(struct.pack("<Q", length) + GOOD[8:])
    for num in (0, 1, 7, 8, 9, *range(16, len(GOOD) - 1, 17), len(GOOD) - 1):
        yield f"cut off at {num}", letter(GOOD[:num])
    for more in (b"\0", b"x" * 64, GOOD):
        yield f"{len(more)} bytes more", letter(GOOD + more)
    rng = np.random.default_rng(11)
    for place in rng.choice(len(GOOD) * 8, size=120, replace=False):
        data = bytearray(GOOD)
        data[place // 8] ^= 1 << (place % 8)
        sent = Letter({UPDATE_HASH: hashlib.sha256(GOOD).hexdigest()}, {UPDATE: bytes(data)})
        yield f"bit {place} turned on the way", sent
    yield "no hash", Letter({}, {UPDATE: GOOD})
    yield "a hash of nothing", Letter({UPDATE_HASH: ""}, {UPDATE: GOOD})
    yield "a hash that is a number", Letter({UPDATE_HASH: 5}, {UPDATE: GOOD})
    yield "no update", Letter({UPDATE_HASH: ""}, {})
    yield "another part", Letter({UPDATE_HASH: hashlib.sha256(GOOD).hexdigest()}, {"current": GOOD})
    yield (
        "pickle",
        letter(b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93."),
    )
    yield "a zip", letter(b"PK\x03\x04" + bytes(100))
    yield "an adapter and no update", letter(START.to_bytes())

    told = asdict(BASIS)
    for what in told:
        for value in ("e" * 64, "", "a" * 63, "A" * 64, f"{MARK:64}", 0, None, True, ["a" * 64], {}):
            yield f"basis: {what} {str(value)[:16]!r}", letter(GOOD, basis=told | {what: value})
        yield f"basis: no {what}", letter(GOOD, basis={k: h for k, h in told.items() if k != what})
    for value in (None, [], list(told.values()), "a" * 64, 5, {}, told | {MARK: "a" * 64}):
        yield f"basis: {str(value)[:24]!r}", letter(GOOD, basis=value)
    yield "no basis", Letter({UPDATE_HASH: hashlib.sha256(GOOD).hexdigest()}, {UPDATE: GOOD})


CASES = dict(cases())


def test_there_are_more_than_two_hundred():
    assert len(CASES) > 250


def test_what_was_asked_for_is_let_in():
    assert let_in(letter(GOOD)) == update()


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_in_our_own_words(name):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"\w+.* .*\w+") as caught:
            let_in(CASES[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    told = plain(str(caught.value))
    assert MARK not in told
    assert "<script>" not in told
    assert told.isprintable()
    assert peak < 20_000_000  # whatever it claims


LOSSY = Exchange(upload="int8", download="float32")
SENT = send_update(update(), START, LOSSY.up(), None).message


@pytest.mark.parametrize("num", [0, 5, 8, 40, len(SENT) // 2, len(SENT) - 1])
def test_a_change_that_is_cut_off(num):
    let_in(letter(SENT), LOSSY)
    with pytest.raises(ValueError, match=r"\w+.* .*\w+"):
        let_in(letter(SENT[:num]), LOSSY)


def test_a_change_where_a_whole_adapter_was_asked_for_and_the_other_way_round():
    for data, exchange in ((SENT, Exchange()), (GOOD, LOSSY)):
        with pytest.raises(ValueError, match=r"\w+.* .*\w+"):
            let_in(letter(data), exchange)
