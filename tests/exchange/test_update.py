from dataclasses import replace

import numpy as np
import pytest

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.update import SiteUpdate, check_site_name
from fedmedlora.exchange.wire import pack

ADAPTER = Adapter({"w": np.array([1.0, -0.0], dtype=np.float32)})
HASH = "0123456789abcdef" * 4
UPDATE = SiteUpdate("mercy", 3, ADAPTER, HASH, 1200)
RECORD = {
    "format": "fedmedlora-update",
    "version": 1,
    "site": "mercy",
    "round_num": 3,
    "started_from": HASH,
    "num_target_tokens": 1200,
}


def test_bytes_and_back():
    assert SiteUpdate.from_bytes(UPDATE.to_bytes(), check_finite=True) == UPDATE
    # equal updates are equal bytes, in whatever order the fields were written
    assert UPDATE.to_bytes() == pack(ADAPTER.arrays, dict(reversed(RECORD.items())))
    assert UPDATE.to_bytes() == pack(ADAPTER.arrays, RECORD)


def test_a_site_cannot_claim_a_validation_loss():
    told = replace(UPDATE, validation_loss=0.001)
    assert SiteUpdate.from_bytes(told.to_bytes()).validation_loss is None
    claimed = pack(ADAPTER.arrays, {**RECORD, "validation_loss": "0.001"})
    with pytest.raises(ValueError, match="metadata must hold exactly"):
        SiteUpdate.from_bytes(claimed)


@pytest.mark.parametrize("key", ["site", "round_num", "started_from", "num_target_tokens"])
def test_a_missing_field_is_refused(key):
    with pytest.raises(ValueError, match="metadata must hold exactly"):
        SiteUpdate.from_bytes(pack(ADAPTER.arrays, {k: v for k, v in RECORD.items() if k != key}))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("site", 7, "'site' must be str, got int"),
        ("site", "../mercy", "site name"),
        ("round_num", "3", "'round_num' must be int, got str"),
        ("round_num", True, "'round_num' must be int, got bool"),
        ("round_num", 0, "rounds count from 1"),
        ("num_target_tokens", 1.5, "must be int, got float"),
        ("num_target_tokens", -1, "0 to 2"),
        ("num_target_tokens", 2**53 + 1, "0 to 2"),
        ("started_from", "abc", "not an adapter hash"),
        ("started_from", HASH.upper(), "not an adapter hash"),
        ("started_from", HASH + "\n", "not an adapter hash"),
        ("version", 2, "same fedmedlora"),
        ("format", "fedmedlora-adapter", "expected format"),
    ],
)
def test_a_wrong_field_is_refused(key, value, message):
    with pytest.raises(ValueError, match=message):
        SiteUpdate.from_bytes(pack(ADAPTER.arrays, {**RECORD, key: value}))


def test_an_adapter_is_no_update_and_back():
    with pytest.raises(ValueError, match="expected format 'fedmedlora-update'"):
        SiteUpdate.from_bytes(ADAPTER.to_bytes())
    with pytest.raises(ValueError, match="expected format 'fedmedlora-adapter'"):
        Adapter.from_bytes(UPDATE.to_bytes())


def test_non_finite_values_are_refused_on_request():
    diverged = replace(UPDATE, adapter=Adapter({"w": np.array([np.inf], dtype=np.float32)}))
    assert SiteUpdate.from_bytes(diverged.to_bytes()) == diverged
    with pytest.raises(ValueError, match="update of 'mercy': array 'w' holds NaN or infinity"):
        SiteUpdate.from_bytes(diverged.to_bytes(), check_finite=True)


def test_a_truncated_update_is_refused():
    with pytest.raises(ValueError, match="fedmedlora-update: not a whole"):
        SiteUpdate.from_bytes(UPDATE.to_bytes()[:-1])


@pytest.mark.parametrize("name", ["a", "St-Anne_2.b", "0", "x" * 64])
def test_safe_site_names(name):
    check_site_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "-rf", "a/b", "a\\b", "a b", "é", "a\n", "a\0", "end.", "x" * 65, None, 3],
)
def test_unsafe_site_names(name):
    with pytest.raises(ValueError, match=r"site name .* is not allowed; use"):
        check_site_name(name)
