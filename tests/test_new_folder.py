"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedmedlora.new_folder import new_folder, refuse_full_disk, refuse_taken


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_new_folder_has_what_was_written_and_nothing_lies_beside_it(tmp_path):
    out = tmp_path / "a" / "b"
    with new_folder(out, 10) as part:
        (part / "inner").mkdir()
        (part / "inner" / "x").write_text("text")
        assert not out.exists()  # not before it is whole
    assert names(tmp_path) == ["a", "a/b", "a/b/inner", "a/b/inner/x"]
    assert (out / "inner" / "x").read_text() == "text"
    assert out.stat().st_mode & 0o077 == (out / "inner" / "x").stat().st_mode & 0o077 == 0


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out") as part:
        (part / "x").write_text("text")
    assert names(tmp_path) == ["out", "out/x"]


def test_a_link_to_an_empty_folder_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    with new_folder(tmp_path / "link") as part:
        (part / "x").write_text("text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "x").read_text() == "text"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("out", ["out", "a/b/out", "empty"])
def test_an_error_leaves_nothing_behind(tmp_path, out, error):
    (tmp_path / "empty").mkdir()
    with pytest.raises(error), new_folder(tmp_path / out) as part:  # noqa: PT012 - within the block
        (part / "x").write_text("text")
        raise error
    assert names(tmp_path) == ["empty"]


def test_what_holds_something_is_refused_and_stays(tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out in ("full", "file"):
        with pytest.raises(ValueError, match="is there and not empty; name a new folder with --out"):
            refuse_taken(tmp_path / out)
        with pytest.raises(ValueError, match="not empty"), new_folder(tmp_path / out):
            pytest.fail("it was begun")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ValueError, match="name a new folder inside it"):
        refuse_taken(Path())
    assert names(tmp_path) == ["file", "full", "full/x", "here"]


def test_what_appears_meanwhile_is_not_overwritten(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(OSError, match="not empty"), new_folder(out) as part:  # noqa: PT012 - within the block
        (part / "x").write_text("ours")
        out.mkdir()
        (out / "y").write_text("theirs")
    assert names(tmp_path) == ["out", "out/y"]


def test_a_disk_without_room_is_said_before_anything_is_written(tmp_path):
    refuse_full_disk(tmp_path / "a" / "b", 0)
    with pytest.raises(ValueError, match=r"takes 1000000000\.0 GB, and its disk has .* left"):
        refuse_full_disk(tmp_path / "a" / "b", 10**18)
    with pytest.raises(ValueError, match="another disk"), new_folder(tmp_path / "out", 10**18):
        pytest.fail("it was begun")
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_the_edge_is_what_the_disk_has(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "shutil.disk_usage", lambda path: os.terminal_size((0, 0)) and type("", (), {"free": 7})
    )
    refuse_full_disk(tmp_path, 7)
    with pytest.raises(ValueError, match=r"takes 0\.0 MB"):
        refuse_full_disk(tmp_path, 8)
