"""Write a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fedmedlora.durable import flush_folders


def write_atomic(path: Path, text: str) -> None:
    """``text`` as UTF-8 to ``path``: into a neighbour first, then renamed, so a reader never sees half.

    Raises ValueError, naming the path and the system's reason, when it cannot be written; what was
    there before is then still there.
    """
    data = text.encode("utf-8")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.chmod(0o644)
            part.replace(path)
            flush_folders([path.parent])
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be written ({error.strerror or error}); "
            "it needs an existing folder that may be written to, with room on its disk"
        ) from error
