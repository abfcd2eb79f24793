"""A site that made its own pair, and provision on the machine that holds its private half."""

from __future__ import annotations

from fedmedlora.provision.keys import new_key_pair
from fedmedlora.provision.kit import belong


def test_the_two_halves(tmp_path):
    pair, other = new_key_pair("lakeside"), new_key_pair("lakeside")
    private = tmp_path / "site.key"
    private.write_bytes(pair.private)
    assert belong(private, pair.public, "lakeside")
    assert not belong(private, other.public, "lakeside")
    private.write_bytes(b"no key")
    assert not belong(private, pair.public, "lakeside")
