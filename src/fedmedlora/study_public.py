"""The settings of a study as others may see them: in ``results.json`` and in reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fedmedlora.study import Study


def public_settings(study: Study) -> dict[str, Any]:
    """``study.to_dict`` for files that are shown around: of a path out of the study's folder the last name,
    of an address the machine's name.

    Where things lie on a hospital's machines is nobody else's business.
    """
    found = study.to_dict()
    found["model"]["name"] = _last_name(found["model"]["name"])
    found["encoder"]["name"] = _last_name(found["encoder"]["name"])
    found["tasks"]["schema"] = _last_name(found["tasks"]["schema"])
    found["validation"]["notes"] = [_last_name(path) for path in found["validation"]["notes"]]
    if "endpoint" in found:
        found["endpoint"]["url"] = _machine(found["endpoint"]["url"])
    for arm in found["arms"]:
        arm["change"] = _public(arm["change"])
    for table in (*found["sites"], *found["cohorts"]):
        table |= {key: _last_name(table[key]) for key in ("train", "test") if key in table}
    return found


def _public(changes: Any) -> Any:
    """What an arm changes, every text that could be a path out of the study's folder by its last name."""
    if isinstance(changes, dict):
        return {key: _public(value) for key, value in changes.items()}
    if isinstance(changes, list):
        return [_public(value) for value in changes]
    if not isinstance(changes, str):
        return changes
    return _machine(changes) if changes.startswith(("http://", "https://")) else _last_name(changes)


def _machine(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"


def _last_name(path: str) -> str:
    leaves = Path(path).is_absolute() or ".." in Path(path).parts
    return Path(path).name if leaves else path
