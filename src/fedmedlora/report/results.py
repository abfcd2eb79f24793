"""``results.json`` and ``study-results.json``: read and written, and checked both times (``results/``)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from fedmedlora.report.atomic import write_atomic
from fedmedlora.results.check import validate
from fedmedlora.results.study_check import validate_study

_OF_THE_LAST_CALL = ("created_utc", "command", "environment")


def read_results(path: str | Path) -> dict[str, Any]:
    """The results in the file ``path``.

    Raises ValueError when it cannot be read, is not JSON or does not follow the schema.
    """
    return _read(Path(path), validate, "results.json", "run")


def read_study_results(path: str | Path) -> dict[str, Any]:
    """The results of a study of many runs in the file ``path``; errors as ``read_results``."""
    return _read(Path(path), validate_study, "study-results.json", "study")


def _read(path: Path, check: Callable[[Any], None], called: str, of: str) -> dict[str, Any]:
    try:
        results = json.loads(path.read_bytes().decode("utf-8-sig"), parse_constant=_no_constant)
        check(results)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); give the {called} of a {of}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}; {called} is UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: line {error.lineno}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: nested too deeply to be a {called}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    found: dict[str, Any] = results
    return found


def write_results(path: str | Path, results: Mapping[str, Any]) -> None:
    """``results``, once they are valid, to the file ``path``, whole or not at all.

    Raises ValueError as ``validate`` does, and when the file cannot be written.
    """
    validate(results)
    write_atomic(Path(path), json.dumps(results, indent=1, allow_nan=False) + "\n")


def write_study_results(path: str | Path, results: Mapping[str, Any]) -> None:
    """The same for the results of a study of many runs."""
    validate_study(results)
    write_atomic(Path(path), json.dumps(results, indent=1, allow_nan=False) + "\n")


def kept(path: str | Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """What the file ``path`` holds, where ``results`` say the same; else ``results``.

    A run that was finished and is gone on with finishes again, under another command and maybe on another
    machine, but nothing was measured then: when and where it was stays as it was told. Nothing is kept of a
    file that cannot be read as results of any kind.
    """
    found: dict[str, Any] = json.loads(json.dumps(results))
    try:
        before = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return found
    if not isinstance(before, dict):
        return found
    same = all(before.get(key) == value for key, value in found.items() if key not in _OF_THE_LAST_CALL)
    return before if same and before.keys() == found.keys() else found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number; what is undefined is written as null")
