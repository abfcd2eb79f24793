"""A consortium of three hospitals, one of which makes its own key."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.provision.consortium import load_consortium
from fedmedlora.provision.keys import new_key_pair

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
TOML = """\
name = "Three hospitals"
[coordinator]
address = "coordinator.example:8000"
other_names = ["192.0.2.7"]
[allows]
validates_others = true
max_rank = 8
[[sites]]
name = "lakeside"
public_key = "lakeside.pub"
[[sites]]
name = "northgate"
train = "notes/train.jsonl"
proxy = "http://proxy.example:3128"
[[sites]]
name = "stonebridge"
"""


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def kits(tmp_path) -> Path:
    """Where kits are made; not there yet."""
    return tmp_path / "kits"


@pytest.fixture
def write_consortium(tmp_path):
    """``write_consortium(text)`` -> the consortium of ``text``, with lakeside's public key beside it."""
    (tmp_path / "lakeside.pub").write_bytes(new_key_pair("lakeside").public)

    def write(text: str = TOML):
        path = tmp_path / "consortium.toml"
        path.write_text(text, encoding="utf-8")
        return load_consortium(path)

    return write


@pytest.fixture
def consortium(write_consortium):
    return write_consortium()


@pytest.fixture
def consortium_toml() -> str:
    return TOML
