"""A lock that a program holds while it is at work: a second one is told so, and not let in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


class InUse(ValueError):  # noqa: N818 - a state, not a mistake
    """Another process holds the lock."""


@contextmanager
def only_one(path: Path, told: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Within the block no other process is in one under the same ``path``, a file that stays.

    Waits ``wait_s`` seconds for one that is, then raises ``InUse`` with the words ``told``. The system frees
    what a killed process had.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise InUse(told) from None
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a process is within ``only_one(path, ...)`` now."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
