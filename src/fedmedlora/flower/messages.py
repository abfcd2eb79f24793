"""What travels between coordinator and sites, as Flower records.

A question holds the study's terms, a few numbers, and adapters; an answer holds numbers and at most one
update. Adapters keep the bytes of ``exchange/`` (safetensors, checked on arrival), in an array of bytes,
because Flower cuts arrays into pieces and nothing else. All else is JSON, read strictly on both sides.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedmedlora.exchange.exchange import Exchange
from fedmedlora.exchange.local import Local
from fedmedlora.settings import read_table
from fedmedlora.sites import Errand

DESCRIBE, TRAIN, READ, LOSSES = "query.describe", "train", "evaluate.read", "evaluate.losses"
VERSION = 8
MOST = sys.float_info.max
MAX_JSON = 4_000_000  # characters of a question or an answer without its adapters; real ones have thousands
_STYPE = "fedmedlora.bytes"
_RUN = re.compile(r"[0-9a-f]{0,32}")

ERRAND_FIELDS = frozenset({"method", "run", "local", "exchange"})
BASIS = "basis"  # of an update: see ``security/admission.py``
LAST_ROUND = "last_round"  # see ``sites.Sites.train``
FAILED = "failed"  # of an answer: that the site's program failed, and how, without the words of the error
NOT_NOW, OPENS_IN_S = "not_now", "opens_in_s"  # of an answer: when to ask again, in words and in seconds


@dataclass(frozen=True)
class Letter:
    """One question or answer: JSON ``fields``, and ``parts`` of bytes by name."""

    fields: Mapping[str, Any]
    parts: Mapping[str, bytes] = field(default_factory=dict)

    def to_records(self) -> RecordDict:
        """As Flower's records."""
        text = json.dumps({"version": VERSION, **self.fields}, allow_nan=False, separators=(",", ":"))
        arrays = {
            name: Array(dtype="uint8", shape=(len(data),), stype=_STYPE, data=data)
            for name, data in self.parts.items()
        }
        return RecordDict({"fields": ConfigRecord({"json": text}), "parts": ArrayRecord(arrays)})

    @staticmethod
    def from_records(records: RecordDict) -> Letter:
        """What ``to_records`` made. Raises ``ValueError`` for anything else."""
        try:
            text = records["fields"]["json"]
            parts: dict[str, Any] = {str(name): array for name, array in records["parts"].items()}
        except (KeyError, TypeError, AttributeError):
            raise ValueError("message: not one of fedmedlora's; is the other side another program?") from None
        if not isinstance(text, str) or len(text) > MAX_JSON:
            raise ValueError(f"message: its fields are no text of at most {MAX_JSON} characters")
        if any(getattr(array, "stype", None) != _STYPE for array in parts.values()):
            raise ValueError("message: an adapter in it is not in fedmedlora's format")
        try:
            found = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise ValueError("message: its fields are not JSON") from None
        version = found.pop("version", None) if isinstance(found, dict) else None
        if type(version) is not int or version != VERSION:
            raise ValueError(
                f"message: not version {VERSION} of the exchange; install the same fedmedlora on both sides"
            )
        return Letter(found, {name: bytes(array.data) for name, array in parts.items()})

    def text(self, key: str) -> str:
        """The field ``key`` as text. Raises ``ValueError`` where it is none."""
        return str(self._field(key, str))

    def whole(self, key: str) -> int:
        """The field ``key`` as a whole number, 0 or more."""
        value = self._field(key, int)
        if isinstance(value, bool) or not 0 <= value <= 2**53:
            raise ValueError(f"message: {key} is out of range")
        return int(value)

    def number(self, key: str) -> float:
        """The field ``key`` as a finite number."""
        value = self._field(key, (int, float))
        # A whole number of JSON may be longer than a float holds.
        if isinstance(value, bool) or not -MOST <= value <= MOST:
            raise ValueError(f"message: {key} is no finite number")
        return float(value)

    def flag(self, key: str) -> bool:
        """The field ``key`` as true or false."""
        return bool(self._field(key, bool))

    def table(self, key: str) -> dict[str, Any]:
        """The field ``key`` as a table."""
        return dict(self._field(key, dict))

    def part(self, name: str) -> bytes:
        """The bytes named ``name``."""
        if name not in self.parts:
            raise ValueError(f"message: lacks {name!r}")
        return self.parts[name]

    def _field(self, key: str, kind: type | tuple[type, ...]) -> Any:
        if not isinstance(self.fields.get(key), kind):
            raise ValueError(f"message: {key} is missing or of the wrong kind")
        return self.fields[key]


def errand_fields(errand: Errand) -> dict[str, Any]:
    """``errand`` as fields of a letter."""
    return {
        "method": errand.method,
        "run": errand.run,
        "local": asdict(errand.local),
        "exchange": asdict(errand.exchange),
    }


def errand_of(letter: Letter) -> Errand:
    """What ``errand_fields`` wrote. Raises ``ValueError`` for anything else, naming the key."""
    run = letter.text("run")
    if not _RUN.fullmatch(run):
        raise ValueError("message: run is not the id of a run")
    return Errand(
        letter.text("method"),
        read_table(Local, letter.table("local"), "message: local:"),
        read_table(Exchange, letter.table("exchange"), "message: exchange:"),
        run=run,
    )


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")
