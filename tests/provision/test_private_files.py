"""Files of one's own: modes, and that nothing overwrites what is there."""

from __future__ import annotations

import os
import stat

import pytest

from fedmedlora.provision import private_files
from fedmedlora.provision.private_files import is_private, private_folder, write_new, write_over


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o277], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_modes_do_not_depend_on_the_umask(tmp_path, umask):
    folder = private_folder(tmp_path / "a")
    assert mode(folder) == 0o700
    assert write_new(folder / "key", b"1")
    assert write_over(folder / "text", b"1")
    assert write_over(folder / "start.sh", b"1", 0o700)
    assert [mode(folder / name) for name in ("key", "text", "start.sh")] == [0o600, 0o600, 0o700]
    assert sorted(p.name for p in folder.iterdir()) == ["key", "start.sh", "text"]  # nothing half-written


def test_a_folder_that_is_there_becomes_private(tmp_path):
    (tmp_path / "a").mkdir(mode=0o755)
    assert mode(private_folder(tmp_path / "a")) == 0o700


def test_nothing_new_over_what_is_there(tmp_path):
    (tmp_path / "key").write_bytes(b"1")
    assert not write_new(tmp_path / "key", b"2")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert not write_new(tmp_path / "link", b"2")
    assert (tmp_path / "key").read_bytes() == b"1"
    assert not (tmp_path / "nowhere").exists()


def test_two_at_once_leave_one_key(tmp_path, monkeypatch):
    path = tmp_path / "key"
    part = private_files._part

    def slow(*args):
        found = part(*args)
        path.write_bytes(b"the other one's")  # between the look and the link
        return found

    monkeypatch.setattr(private_files, "_part", slow)
    assert not write_new(path, b"mine")
    assert path.read_bytes() == b"the other one's"
    assert [p.name for p in tmp_path.iterdir()] == ["key"]


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def refuses(*args):
        raise OSError("no links here")

    monkeypatch.setattr(private_files.os, "link", refuses)
    assert write_new(tmp_path / "key", b"1")
    assert (tmp_path / "key").read_bytes() == b"1"
    assert not write_new(tmp_path / "key", b"2")


def test_written_over_only_where_it_differs(tmp_path):
    assert write_over(tmp_path / "a", b"1")
    assert not write_over(tmp_path / "a", b"1")
    assert write_over(tmp_path / "a", b"2")
    assert is_private(tmp_path / "a")
    (tmp_path / "a").chmod(0o640)
    assert not is_private(tmp_path / "a")
