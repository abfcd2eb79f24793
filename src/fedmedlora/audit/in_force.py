"""Which programs are at work, and under which settings, as entries and passports have it."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from fedmedlora import __version__
from fedmedlora.audit.sorts import told

_DECIDE = ("torch", "transformers", "peft", "numpy", "safetensors")  # what comes of a run


def versions() -> dict[str, str]:
    """Program -> version."""
    found = {"fedmedlora": __version__, "python": platform.python_version()}
    found |= {name: version(name) for name in _DECIDE}
    return {name: told(number) for name, number in found.items()}


def flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted name -> value of all settings in ``table``; text that is no plain name by its sha256.

    What is not set at all (None, an empty list or table) is left out.
    """
    return dict(_flat(table, ""))


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    inner: Any = ()
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, (list, tuple)):
        inner = enumerate(value)
    for key, one in inner:
        yield from _flat(one, f"{name}.{key}" if name else str(key))
    if isinstance(value, str):
        yield name, told(value)
    elif isinstance(value, (bool, int, float)):
        yield name, value
