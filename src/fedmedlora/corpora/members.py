"""Files of a folder or of an archive (zip, tar.gz, gz), read in place: nothing is unpacked to disk.

Because nothing is written, a hostile name inside an archive (``../x``) is a name and nothing more.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

MAX_MEMBER_BYTES = 256 * 2**20  # a note is kilobytes; what inflates past this is no note


_PERCENT = re.compile(r"%[0-9A-F]{2}")


def is_archive(path: Path) -> bool:
    """Whether the name says zip, tar.gz, tgz or tar."""
    return path.name.lower().endswith((".zip", ".tar.gz", ".tgz", ".tar"))


def refuse_absent(place: Path) -> None:
    """Raise ``ValueError`` where there is nothing at ``place``."""
    if not place.exists():
        raise ValueError(f"{place}: there is no such file or folder")


def place_of(source: Path, name: str) -> str:
    """How messages name the file ``name`` of ``source``, as ``read_members`` gave it."""
    return f"{source / name}" if source.is_dir() or is_archive(source) else f"{source.parent / name}"


def note_name(stem: str) -> str:
    """The note that a text file's name says; in ``%XX`` our BRAT writer spells what no name may have."""
    return unquote(stem) if _PERCENT.search(stem) else stem


def read_members(source: Path, suffixes: tuple[str, ...]) -> dict[str, bytes]:
    """Contents of all files under ``source`` that end in one of ``suffixes`` (or that and ``.gz``), by name.

    Names are relative, with ``/``, without ``.gz``, in sorted order; hidden files (``.x``, ``__MACOSX``)
    are not notes and are left out. Raises ``ValueError`` on a damaged archive or the same name twice.
    """
    refuse_absent(source)
    found: dict[str, bytes] = {}
    try:
        for name, content in _members(source, suffixes):
            if name in found:
                raise ValueError(f"{source}: holds {name!r} twice (plain and .gz?); keep one of them")
            found[name] = content
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{source}: damaged archive ({type(error).__name__}); copy it again") from None
    except (RuntimeError, NotImplementedError):  # how zipfile says that it wants a password or a method
        raise ValueError(f"{source}: encrypted, or compressed in an unknown way; unpack it first") from None
    return dict(sorted(found.items()))


def _members(source: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            name = path.relative_to(source).as_posix()
            if _wanted(name, suffixes):
                yield _inflate(name, path.read_bytes())
    elif source.name.lower().endswith(".zip"):
        with zipfile.ZipFile(source) as archive:
            for info in archive.infolist():
                if not info.is_dir() and _wanted(info.filename, suffixes):
                    _check_size(source, info.filename, info.file_size)
                    yield _inflate(info.filename, archive.read(info))
    elif is_archive(source):
        with tarfile.open(source) as tar:
            for member in tar:
                if member.isfile() and _wanted(member.name, suffixes):
                    _check_size(source, member.name, member.size)
                    file = tar.extractfile(member)
                    assert file is not None  # a regular file always opens
                    yield _inflate(member.name.removeprefix("./"), file.read())
    elif _wanted(source.name, suffixes):
        yield _inflate(source.name, source.read_bytes())
    else:
        raise ValueError(
            f"{source}: expected a folder, a .zip, a .tar.gz, or a file ending in {', '.join(suffixes)}"
        )


def _wanted(name: str, suffixes: tuple[str, ...]) -> bool:
    parts = PurePosixPath(name).parts
    if any(part.startswith(".") and part not in (".", "..") for part in parts) or "__MACOSX" in parts:
        return False
    return name.removesuffix(".gz").endswith(suffixes)


def _inflate(name: str, content: bytes) -> tuple[str, bytes]:
    if not name.endswith(".gz"):
        return name, content
    with gzip.open(io.BytesIO(content)) as file:
        inflated = file.read(MAX_MEMBER_BYTES + 1)
    _check_size(Path(name), name, len(inflated))
    return name.removesuffix(".gz"), inflated


def _check_size(source: Path, name: str, num_bytes: int) -> None:
    if num_bytes > MAX_MEMBER_BYTES:
        raise ValueError(f"{source}: {name!r} is over {MAX_MEMBER_BYTES} bytes; that is no note")


def decode_unmarked(content: bytes, where: str) -> str:
    """As ``decode``, without a byte order mark: for formats whose places do not count it."""
    return decode(content.removeprefix(b"\xef\xbb\xbf"), where)


def decode(content: bytes, where: str) -> str:
    """UTF-8 to text, CR LF and a byte order mark kept (offsets count them). Raises ``ValueError``."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: byte {error.start} is not UTF-8; save the file as UTF-8 "
            "(mind that offsets count characters, so check them afterwards)"
        ) from None
