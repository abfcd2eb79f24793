"""Errors of this machine that may pass while nobody does anything: told, and what failed is tried again.

An error that a person has to do something about (a path that is wrong, a folder that is somebody else's) ends
a program instead, and so does one that is not known here.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

AGAIN_S = 30.0  # so that a service manager, which gives up what ends often, sees no end

# Of disks: full, above a quota, or away (a network's, a controller's). Others make room, or it comes back.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)
# Of what other programs of the machine use up for a while: memory, processes, open files.
_MACHINE = (errno.ENOMEM, errno.EAGAIN, errno.ENFILE, errno.EMFILE)
# Not EROFS: a disk is mounted so by a person, or by the system after an error that a person has to repair.
# Nor ENOENT, EACCES and their like, which are about a name that a person gave.
_MAY_PASS = frozenset((*_DISK, *_MACHINE))

T = TypeVar("T")


def may_pass(error: BaseException) -> bool:
    """Whether ``error`` is one of the system's that may be gone when the same is tried again later."""
    return isinstance(error, OSError) and error.errno in _MAY_PASS


def in_words(error: BaseException) -> str:
    """``error`` for whoever reads the terminal: an error of the system by its file and what it says."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


def waited_out(do: Callable[[], T], tell: Callable[[str], None]) -> T:
    """What ``do`` returns, called again as long as it ends with what may pass. Raises all else."""
    while True:
        try:
            return do()
        except OSError as error:
            if not may_pass(error):
                raise
            tell(f"{in_words(error)}; it is tried again in {AGAIN_S:.0f} s")
            time.sleep(AGAIN_S)
