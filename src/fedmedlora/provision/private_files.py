"""Files that are their owner's alone, and keys that nothing overwrites."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from fedmedlora.durable import flush_folders

OWNER_FILE, OWNER_FOLDER, OWNER_PROGRAM = 0o600, 0o700, 0o700


def private_folder(path: Path) -> Path:
    """``path`` as a folder that nobody else looks into (0700), made where it is missing."""
    path.mkdir(parents=True, exist_ok=True, mode=OWNER_FOLDER)
    path.chmod(OWNER_FOLDER)
    return path


def write_new(path: Path, content: bytes, mode: int = OWNER_FILE) -> bool:
    """Put ``content`` at ``path`` if nothing is there, whole or not at all; whether it was put there."""
    if path.exists() or path.is_symlink():
        return False
    part = _part(path, content, mode)
    try:
        os.link(part, path)  # unlike a rename, this refuses when another process was first
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    flush_folders([path.parent])
    return True


def write_over(path: Path, content: bytes, mode: int = OWNER_FILE) -> bool:
    """Put ``content`` at ``path``, whole or not at all; whether that changed anything."""
    if path.is_file() and path.read_bytes() == content:
        path.chmod(mode)
        return False
    _part(path, content, mode).replace(path)
    flush_folders([path.parent])
    return True


def is_private(path: Path) -> bool:
    """Whether nobody but its owner may read or write ``path``."""
    return not path.stat().st_mode & 0o077


def _part(path: Path, content: bytes, mode: int) -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:  # mkstemp made it 0600
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    return Path(name)
