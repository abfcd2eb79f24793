"""What stays in memory, what goes to the disk, and that nothing is left there."""

from __future__ import annotations

import stat

import numpy as np
import pytest

from fedmedlora.exchange import spill
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.spill import spilling
from fedmedlora.exchange.update import SiteUpdate

CURRENT = Adapter({"w": np.zeros(4, np.float32)})  # 16 bytes


def update(number):
    adapter = Adapter({"w": np.full(4, number, np.float32)})
    return SiteUpdate(f"s{number}", 1, adapter, CURRENT.hash(), number)


@pytest.mark.parametrize(("held", "num_in_memory"), [(0, 0), (15, 0), (16, 1), (47, 2), (48, 3), (1000, 5)])
def test_the_first_ones_stay_in_memory(monkeypatch, tmp_path, held, num_in_memory):
    monkeypatch.setattr(spill, "HELD_BYTES", held)
    folder = tmp_path / "run" / "spilled"
    updates = [update(number) for number in range(5)]
    with spilling(folder) as keep:
        kept = [keep(one) for one in updates]
        assert [one.adapter.is_stored for one in kept] == [False] * num_in_memory + [True] * (
            5 - num_in_memory
        )
        assert kept == updates
        assert folder.exists() == (num_in_memory < 5)
        if folder.exists():
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert len(list(folder.iterdir())) == 5 - num_in_memory
            assert not any("s1" in path.name for path in folder.iterdir())
    assert not folder.exists()


def test_nothing_is_left_after_an_error_or_a_kill(monkeypatch, tmp_path):
    monkeypatch.setattr(spill, "HELD_BYTES", 0)
    folder = tmp_path / "spilled"

    def interrupted():
        with spilling(folder) as keep:
            keep(update(1))
            assert folder.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not folder.exists()
    folder.mkdir()
    (folder / "000001.safetensors").write_bytes(b"of a run that was killed")
    with spilling(folder) as keep:
        assert not folder.exists()
        assert keep(update(2)) == update(2)
    assert not folder.exists()


def test_without_a_folder_there_is_a_temporary_one(monkeypatch, tmp_path):
    monkeypatch.setattr(spill, "HELD_BYTES", 0)
    monkeypatch.setattr(spill.tempfile, "tempdir", str(tmp_path))
    with spilling(None) as keep:
        keep(update(1))
        (folder,) = tmp_path.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert keep(update(2)).adapter.loaded() == update(2).adapter
        assert len(list(folder.iterdir())) == 2
    assert not list(tmp_path.iterdir())
