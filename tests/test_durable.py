"""What is written is on the disk under its name: content first, then the name in its folder."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from fedmedlora.audit import signing
from fedmedlora.audit.entries import Fault
from fedmedlora.audit.log_file import AuditLog
from fedmedlora.corpora.jsonl import write_together
from fedmedlora.durable import flush_folders
from fedmedlora.new_folder import new_folder
from fedmedlora.provision.private_files import write_new, write_over
from fedmedlora.report.atomic import write_atomic
from fedmedlora.run_folder import write_file


def write_folder(path: Path) -> None:
    with new_folder(path.parent) as folder:
        (folder / path.name).write_bytes(b"1")


WRITERS = {
    "a file of a run": lambda path: write_file(path, b"1"),
    "several files": lambda path: write_together({path: b"1", path.with_name("other"): b"2"}),
    "the audit log": lambda path: AuditLog(path).append(Fault("failed", "", "", "", "KeyError")),
    "a new key": lambda path: write_new(path, b"1"),
    "the key that signs": lambda path: signing._write(path, b"1", 0o600, over=False),
    "its public half": lambda path: signing._write(path, b"1", 0o644, over=True),
    "a file of a kit": lambda path: write_over(path, b"1"),
    "a report": lambda path: write_atomic(path, "1"),
    "a new folder": write_folder,
}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc for what was flushed")
@pytest.mark.parametrize("kind", WRITERS)
def test_what_was_written_is_flushed_with_its_name(tmp_path, monkeypatch, kind):
    """``os.fsync`` is called as ever, and looked at."""
    names: dict[int, set[str]] = {}  # of a folder, by inode: it may be renamed afterwards
    contents, really = [], os.fsync

    def looked_at(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            names.setdefault(path.stat().st_ino, set()).update(one.name for one in path.iterdir())
        else:
            contents.append(path.read_bytes())
        really(descriptor)

    makes_folders = kind in ("a file of a run", "several files", "a new folder")
    path = tmp_path / "new" / "folder" / "file" if makes_folders else tmp_path / "file"
    monkeypatch.setattr(os, "fsync", looked_at)
    WRITERS[kind](path)
    monkeypatch.undo()
    assert path.read_bytes() in contents
    for one in (path, *(path.parents[:2] if makes_folders else ())):
        assert one.name in names[one.parent.stat().st_ino]


def test_a_file_system_that_flushes_no_folders_is_left_alone(tmp_path, monkeypatch):
    def refuses(number: int):
        def fsync(_: int) -> None:
            raise OSError(number, os.strerror(number))

        return fsync

    monkeypatch.setattr(os, "fsync", refuses(errno.EINVAL))
    flush_folders([tmp_path, tmp_path])
    monkeypatch.setattr(os, "fsync", refuses(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        flush_folders([tmp_path])
