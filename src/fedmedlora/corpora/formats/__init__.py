"""One file per corpus format; the file's name is the reader's name.

A format module has ``read(source: Path) -> tuple[RawNote, ...]``. To add one: put a file here and a
sample for it in ``tests/corpora/test_reader_contract.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from fedmedlora.corpora.raw import RawNote

Reader = Callable[[Path], tuple[RawNote, ...]]


def reader_names() -> tuple[str, ...]:
    """Names of the readers in this package, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(
        sorted(f.name.removesuffix(".py") for f in files if f.name.endswith(".py") and f.name[0] != "_")
    )


def holds_links(name: str) -> bool:
    """Whether the format ``name`` can tie modifiers to entities; if not, its file has HOLDS_LINKS = False."""
    return bool(getattr(_module(name), "HOLDS_LINKS", True))


def load_reader(name: str) -> Reader:
    """The ``read`` function of ``formats/<name>.py``. Raises ``ValueError`` listing the known names."""
    reader: Reader = _module(name).read
    return reader


def _module(name: str) -> Any:
    if name not in reader_names():
        raise ValueError(f"unknown reader {name!r}; known readers: {', '.join(reader_names())}")
    return importlib.import_module(f"{__name__}.{name}")
