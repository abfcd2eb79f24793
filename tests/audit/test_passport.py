"""Every field of a passport is under its signature, and nothing else gets in."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'fedmedlora[audit]'")

from fedmedlora.audit.canonical import canonical
from fedmedlora.audit.entries import Head
from fedmedlora.audit.passport import (
    NO_PRIVACY,
    AdapterFiles,
    AnswerScore,
    LogEnd,
    MadeOf,
    Passport,
    Score,
    SiteShare,
    Training,
    pseudonym,
    read_passport,
    write_passport,
)
from fedmedlora.audit.signing import signer_of

H, RUN = "ab" * 32, "0af" + "1" * 29


@pytest.fixture(scope="module")
def signer(tmp_path_factory):
    return signer_of(tmp_path_factory.mktemp("signer"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return signer_of(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def passport() -> Passport:
    site = pseudonym("lakeside", RUN)
    return Passport(
        "fedmedlora-passport",
        1,
        "2026-11-29T13:36:00Z",
        AdapterFiles(H, 1000, {"adapter_model.safetensors": H, "fedmedlora.json": "cd" * 32}),
        MadeOf("smollm2-135m", H, H, H),
        Training("fed_medlora_plus", 2, {"rule.tau": 0.05, "rule.gamma": 1, "adapter.targets": "all"}),
        (SiteShare(site, 2), SiteShare("0" * 32, 1)),
        NO_PRIVACY,
        (Score(site, True, "constrained", "entities", "strict", 2, 1, 1, 2 / 3),
         Score("i2b2", False, "constrained", "links_gold", "lenient", 0, 0, 0, None)),
        (AnswerScore("i2b2", False, "exact_match", 4, 0.25),),
        LogEnd("cd" * 16, Head(H, 9)),
        {"fedmedlora": "0.1.0", "torch": "2.6.0+cpu"},
        H,
        None,
    )  # fmt: skip


def test_there_and_back(passport, signer):
    data = write_passport(passport, signer)
    found = read_passport(data)
    assert found.passport == replace(passport, key=signer.public)
    assert found.signature_problem(None) == found.signature_problem(signer.public) == ""
    assert data == canonical(json.loads(data)) + b"\n"


def test_what_is_signed_as_worked_by_hand(passport, signer):
    record = json.loads(write_passport(passport, signer))
    signature = record.pop("signature")
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert signer.public.verifies(signature, b"fedmedlora-passport-1\n" + text.encode())


def test_without_a_key_it_says_so(passport, signer):
    found = read_passport(write_passport(passport, None))
    assert (found.signature, found.passport.key) == ("none", None)
    assert found.signature_problem(None) == ""
    assert "cannot be told whose it is" in found.signature_problem(signer.public)


def test_another_key_is_not_this_one(passport, signer, other):
    """Somebody changes a passport and signs it with a key of their own."""
    found = read_passport(write_passport(replace(passport, study_hash=""), other))
    assert found.signature_problem(None) == ""
    assert found.signature_problem(signer.public).startswith("signed by another key (fingerprint")


def test_signature_and_key_go_together(passport, signer, other):
    signed, unsigned = (json.loads(write_passport(passport, who)) for who in (signer, None))
    stripped = {**signed, "signature": "none"}
    keyless = {**signed, "key": None}
    borrowed = {**signed, "key": json.loads(write_passport(passport, other))["key"]}
    for record in (stripped, keyless, borrowed, {**unsigned, "signature": signed["signature"]}):
        found = read_passport(canonical(record) + b"\n")
        assert found.signature_problem(None)
        assert found.signature_problem(signer.public)


def places(value, path=()):
    """The way to every value in a record that is no table and no list, and to those themselves."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*path, key)
        yield from places(one, (*path, key))


def changed(value):
    """Another value of the same kind, where there is one that a passport might hold."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        last = value[-1:]
        return value[:-1] + ("1" if last == "0" else "0")
    if isinstance(value, list):
        return value[:-1]
    if isinstance(value, dict):
        return dict(list(value.items())[:-1])
    return 0.5


def test_any_field_that_changes_is_found(passport, signer):
    record = json.loads(write_passport(passport, signer))
    num_refused = num_unsigned = 0
    ways = list(places(record))
    for way in ways:
        copy = json.loads(json.dumps(record))
        inner = copy
        for key in way[:-1]:
            inner = inner[key]
        inner[way[-1]] = changed(inner[way[-1]])
        assert copy != record, way
        try:
            found = read_passport(canonical(copy) + b"\n")
        except ValueError:
            num_refused += 1
            continue
        assert found.signature_problem(None), way
        num_unsigned += 1
    assert num_refused + num_unsigned == len(ways) > 70
    assert num_unsigned > 40  # most are found by the signature alone


def test_any_byte_that_changes_is_found(passport, signer):
    data = write_passport(passport, signer)
    for place in range(0, len(data), 3):
        for other in (bytes([data[place] ^ 1]), b""):
            try:
                found = read_passport(data[:place] + other + data[place + 1 :])
            except ValueError:
                continue
            assert found.signature_problem(None), place


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "format and version must be 'fedmedlora-passport' and 1"),
        ({"version": True}, "version"),
        ({"version": 1.0}, "version"),
        ({"format": "fedmedlora-adapter"}, "format and version"),
        ({"note": "Mr Doe has a fever"}, "a key that does not belong here"),
        ({"privacy_ledger": "epsilon 1"}, "privacy_ledger"),
        ({"created": "yesterday"}, "created"),
        ({"sites": [{"pseudonym": "lakeside", "num_rounds": 1}]}, r"pseudonym"),
        ({"sites": [{"pseudonym": "0" * 32, "num_rounds": 0}]}, "num_rounds"),
        ({"sites": {}}, "sites"),
        ({"study_hash": "Mr Doe has a fever"}, "study_hash"),
        ({"signature": None}, "signature is missing"),
        ({"signature": "A" * 401}, "signature is missing"),
        ({"key": "none"}, "key"),
        ({"versions": {"a b": "1"}}, "versions"),
        ({"training": {"method": "x", "num_rounds": 1, "settings": {"a": "Mr Doe"}}}, "settings.a"),
        ({"training": {"method": "x", "num_rounds": 1, "settings": {"a": {"b": 1}}}}, "settings.a"),
    ],
)
def test_hostile_passports_are_refused_without_a_word_of_theirs(passport, signer, change, message):
    record = json.loads(write_passport(passport, signer))
    with pytest.raises(ValueError, match=message) as caught:
        read_passport(canonical({**record, **change}) + b"\n")
    assert "Doe" not in str(caught.value)


def test_other_ways_to_write_it_are_refused(passport, signer):
    data = write_passport(passport, signer)
    record = json.loads(data)
    missing = {key: value for key, value in record.items() if key != "audit"}
    for other in (
        json.dumps(record).encode() + b"\n",
        data[:-1],
        data + b"\n",
        data.replace(b'"version":1', b'"version":1,"version":1'),
        b'{"signature":"none",' + data[1:],
        canonical(missing) + b"\n",
        b"[" * 100_000 + b"\n",
        b"null\n",
        b"\n",
        b"",
        b" " * (16 << 20) + b"\n\n",
    ):
        with pytest.raises(ValueError, match=r"^passport: "):
            read_passport(other)


def test_a_site_finds_itself_by_the_run_and_nobody_by_the_name_alone():
    own = hmac.new(RUN.encode(), b"fedmedlora-site-1\nlakeside", hashlib.sha256).hexdigest()[:32]
    assert pseudonym("lakeside", RUN) == own
    assert pseudonym("lakeside", "1" * 32) != own
    assert pseudonym("northgate", RUN) != own
