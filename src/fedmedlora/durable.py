"""Names that stay: a file that was renamed to its place is under that name after a power cut, too."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

_NO_SUCH_THING = (errno.EINVAL, errno.ENOTSUP)


def flush_folders(folders: Iterable[Path]) -> None:
    """Bring the names in each of ``folders`` to the disk; flushing a file brings its content there alone.

    Raises ``OSError`` where the disk does not take them. A file system that flushes no folders is left alone.
    """
    for folder in sorted(set(folders)):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_SUCH_THING:
                raise
        finally:
            os.close(descriptor)
