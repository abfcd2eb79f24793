"""One file per corpus format; the file's name is the reader's name.

A format module has ``read(source: Path) -> tuple[RawNote, ...]``. To add one: put a file here and a
sample for it in ``tests/corpora/test_reader_contract.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from fedmedlora.corpora.raw import RawNote

Reader = Callable[[Path], tuple[RawNote, ...]]


def reader_names() -> tuple[str, ...]:
    """Names of the readers in this package, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(
        sorted(f.name.removesuffix(".py") for f in files if f.name.endswith(".py") and f.name[0] != "_")
    )


def load_reader(name: str) -> Reader:
    """The ``read`` function of ``formats/<name>.py``. Raises ``ValueError`` listing the known names."""
    if name not in reader_names():
        raise ValueError(f"unknown reader {name!r}; known readers: {', '.join(reader_names())}")
    reader: Reader = importlib.import_module(f"{__name__}.{name}").read
    return reader
