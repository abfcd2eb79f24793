"""A kit's site.toml fixes the one app that its site runs."""

from __future__ import annotations

import hashlib

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.flower.site_file import load_site_file
from fedmedlora.flower.submit import app_folder
from fedmedlora.provision.kit import provision


def test_the_app_that_may_run_is_fixed(consortium, now, tmp_path):
    """As ``docs/flower.md`` has a person write it: the hash of the installed file."""
    kits = tmp_path / "kits"
    provision(consortium, kits, now)
    own = hashlib.sha256((app_folder() / "pyproject.toml").read_bytes()).hexdigest()
    assert load_site_file(kits / "lakeside" / "site.toml").coordinator.bundle == own
