"""A folder that appears whole or not at all: filled beside its place, then renamed to it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedmedlora.durable import flush_folders


def refuse_taken(out: Path) -> None:
    """Raise ``ValueError`` where ``out`` is there and cannot become a new folder: nothing is overwritten."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: is there and not empty; name a new folder with --out")
    if out.is_dir() and (out.resolve() == Path.cwd() or out.is_mount()):
        # It would be replaced by another folder of its name, which these two cannot be.
        raise ValueError(f"{out}: is where you are, or a disk of its own; name a new folder inside it")


def refuse_full_disk(out: Path, num_bytes: int) -> None:
    """Raise ``ValueError`` where the disk of ``out`` has no room for ``num_bytes``."""
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < num_bytes:
        raise ValueError(
            f"{out}: takes {_in_words(num_bytes)}, and its disk has {_in_words(free)} left; free some, or "
            "name a folder on another disk with --out"
        )


@contextmanager
def new_folder(out: Path, num_bytes: int = 0) -> Iterator[Path]:
    """The folder to write into, which becomes ``out`` when the block ends, its files flushed to the disk.

    ``num_bytes``: about what will be written. Where the block raises, nothing is left behind, and of folders
    above ``out`` only those that were there. Readable by their owner only, as adapters are. Raises
    ``ValueError`` as ``refuse_taken`` and ``refuse_full_disk`` do.
    """
    refuse_taken(out)
    refuse_full_disk(out, num_bytes)
    place = out.resolve()  # a link to an empty folder stays a link
    made = [path for path in place.parents if not path.exists()]
    place.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{place.name[:40]}.", suffix=".part", dir=place.parent))
    try:
        yield part
        for path in part.rglob("*"):
            if path.is_file():
                path.chmod(0o600)
                _flush(path)
        flush_folders(path for path in (part, *part.rglob("*")) if path.is_dir())
        part.rename(place)  # takes the place of an empty folder, and fails on any other
        flush_folders([place.parent, *(path.parent for path in made)])
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _in_words(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"
