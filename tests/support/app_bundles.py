"""App bundles as zips, of any content: what a coordinator could send."""

from __future__ import annotations

import hashlib
import io
import zipfile

APP, CONTENT = "pyproject.toml", ".info/CONTENT"


def files_of(content: bytes) -> dict[str, bytes]:
    """Name -> data of what is in the zip."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, **header: object) -> bytes:
    """A zip of ``files``; ``header``: fields of each entry, such as ``date_time``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = method
            for key, value in header.items():
                setattr(entry, key, value)
            archive.writestr(entry, data)
    return buffer.getvalue()


def fab(files: dict[str, bytes]) -> bytes:
    """A zip as Flower installs it: with a list of contents that holds."""
    lines = [f"{name},{hashlib.sha256(data).hexdigest()},{8 * len(data)}" for name, data in files.items()]
    return zipped({**files, CONTENT: "\n".join(lines).encode()})
