"""What the logs of both sides say of a message in passing: its hash, its bytes, the head that goes with it.

Each side sends the head of its own log along, beside the letter and outside of its hash, so that each holds
what shows whether the other's log was cut off or written anew since.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from flwr.app import ConfigRecord, RecordDict

from fedmedlora.audit.entries import QUESTIONS, Head, head_of
from fedmedlora.audit.sorts import RUN, told
from fedmedlora.flower.messages import MAX_JSON

_AUDIT = "audit"


def question_of(message_type: str) -> str:
    """The kind of a message, as a log has it."""
    return message_type if message_type in QUESTIONS else "other"


def size_and_hash(records: RecordDict) -> tuple[int, str]:
    """(bytes, sha256) of a letter: its fields as text and its parts in the order of their names, each behind
    its length (8 bytes, little-endian)."""
    digest, num_bytes = hashlib.sha256(b"fedmedlora-letter-1"), 0
    for content in _contents(records):
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
        num_bytes += len(content)
    return num_bytes, digest.hexdigest()


def fields_of(records: RecordDict) -> dict[str, Any]:
    """The letter's fields, or none where it is not one."""
    try:
        text = records["fields"]["json"]
        found = json.loads(text) if isinstance(text, str) and len(text) <= MAX_JSON else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def put_head(records: RecordDict, head: Head | None, version: str) -> None:
    """Send ``head`` of the own log along, and the ``version`` of the program."""
    if head is not None:
        records[_AUDIT] = ConfigRecord(
            {"head": head.hash, "num_entries": head.num_entries, "fedmedlora": version}
        )


def head_in(records: RecordDict) -> Head | None:
    """The head of the other side's log; None where none came or it could not be one."""
    return head_of(_audit(records).get("head"), _audit(records).get("num_entries"))


def version_in(records: RecordDict) -> str:
    """The version of the other side's program, as it says; "" where it does not."""
    found = _audit(records).get("fedmedlora")
    return told(found) if isinstance(found, str) and found else ""


def run_of(fields: Mapping[str, Any]) -> str:
    """The id of the run in a letter's fields; "" where there is none."""
    found = fields.get("run")
    try:
        return RUN.take(found, "run")
    except ValueError:
        return ""


def method_of(fields: Mapping[str, Any]) -> str:
    """The method in a letter's fields, which may have come from anywhere; "" where there is none."""
    found = fields.get("method")
    return told(found) if isinstance(found, str) and found else ""


def round_of(fields: Mapping[str, Any]) -> int:
    """The round in a letter's fields; 0 where there is none."""
    found = fields.get("round_num")
    return found if type(found) is int and 0 <= found <= 2**53 else 0


def terms_hash(fields: Mapping[str, Any]) -> str:
    """sha256 of the terms in a letter's fields; "" where there are none."""
    found = fields.get("terms")
    if not isinstance(found, str):
        return ""
    return hashlib.sha256(found.encode("utf-8", "surrogatepass")).hexdigest()


def _contents(records: RecordDict) -> Iterator[bytes]:
    try:
        text = records["fields"]["json"]
        arrays: dict[str, Any] = {str(name): array for name, array in records["parts"].items()}
        parts: dict[str, bytes] = {name: array.data for name, array in arrays.items()}
    except (KeyError, TypeError, AttributeError):
        return
    yield text.encode("utf-8", "surrogatepass") if isinstance(text, str) else b""
    for name, data in sorted(parts.items()):
        yield name.encode("utf-8", "surrogatepass")
        yield data


def _audit(records: RecordDict) -> Mapping[str, Any]:
    found = records.get(_AUDIT)
    return found if isinstance(found, ConfigRecord) else {}
