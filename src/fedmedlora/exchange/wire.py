"""float32 arrays and a small record to bytes and back: the safetensors format, read strictly.

Layout: https://github.com/huggingface/safetensors#format (an 8-byte header length, a JSON header,
the arrays). The record is one metadata entry, ``"fedmedlora"``, holding a JSON object with sorted
keys: the library keeps several entries in no fixed order, and equal updates must be equal bytes.

Stricter than the library, which takes a header that names one array twice and keeps the last one.
Nothing here can run code: the header is JSON and the rest is numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

RECORD = "fedmedlora"  # the metadata entry
LENGTH_BYTES = 8  # the header's length, an unsigned little-endian integer
ITEM_BYTES = 4  # one float32


def pack(arrays: Mapping[str, np.ndarray], record: Mapping[str, str | int]) -> bytes:
    """``arrays`` (float32) and ``record`` as safetensors bytes; the same input gives the same bytes."""
    return save(dict(arrays), metadata=metadata_of(record))


def packed_bytes(shapes: Mapping[str, Sequence[int]], record: Mapping[str, str | int]) -> int:
    """``len(pack(...))`` of arrays of these ``shapes``, without the arrays."""
    sizes = {name: ITEM_BYTES * math.prod(shapes[name]) for name in sorted(shapes)}
    begins = head([(name, "F32", shapes[name], size) for name, size in sizes.items()], record)
    return len(begins) + sum(sizes.values())


def head(arrays: Iterable[tuple[str, str, Sequence[int], int]], record: Mapping[str, str | int]) -> bytes:
    """What stands before the arrays: the header's length and the header, as the library writes it.

    ``arrays``: (name, dtype, shape, bytes) of each, in the order of their bytes. No spaces, filled up to a
    multiple of 8 bytes.
    """
    header: dict[str, Any] = {"__metadata__": metadata_of(record)}
    end = 0
    for name, dtype, shape, num_bytes in arrays:
        start, end = end, end + num_bytes
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    length = -(-len(text) // LENGTH_BYTES) * LENGTH_BYTES
    return length.to_bytes(LENGTH_BYTES, "little") + text.ljust(length)


def metadata_of(record: Mapping[str, str | int]) -> dict[str, str]:
    """``record`` as the one metadata entry."""
    return {RECORD: json.dumps(record, sort_keys=True, separators=(",", ":"))}


def unpack(data: bytes, *, kind: str, version: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and record of ``data``, which must be whole, float32 throughout and of this ``kind``.

    ``kind`` and ``version`` are the record's ``format`` and ``version``; the record comes back without
    them. Raises ValueError on anything else: truncated or trailing bytes, a header that claims more
    than there is, an array named twice, another dtype, a record that is missing or of another kind.
    """
    header = read_header(data, kind)
    record = read_record(header, kind, version)
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype = entry.get("dtype") if isinstance(entry, dict) else None
        if dtype != "F32":
            raise ValueError(
                f"{kind}: array {name[:80]!r} has dtype {str(dtype)[:20]!r}; only 'F32' (float32) travels"
            )
    try:
        arrays = load(data)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{kind}: not a whole safetensors file ({error}); send it again") from error
    return arrays, record


def read_header(data: bytes, kind: str) -> dict[str, Any]:
    """The JSON header of ``data``, every key once. Raises ``ValueError``."""
    if len(data) < LENGTH_BYTES:
        raise ValueError(f"{kind}: {len(data)} bytes are too few for a safetensors header; send it again")
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    rest = len(data) - LENGTH_BYTES
    if length > rest:
        raise ValueError(f"{kind}: the header claims {length} bytes, but only {rest} follow; send it again")
    try:
        header = json.loads(
            data[LENGTH_BYTES : LENGTH_BYTES + length].decode("utf-8"), object_pairs_hook=_each_once
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{kind}: the header is not a safetensors header ({error})") from error
    if not isinstance(header, dict):
        raise ValueError(f"{kind}: the header is a {type(header).__name__}, not a JSON object")
    return header


def read_record(header: dict[str, Any], kind: str, version: int) -> dict[str, Any]:
    """The record in ``header`` without its ``format`` and ``version``, which must be these.

    Raises ``ValueError``.
    """
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not isinstance(metadata.get(RECORD), str):
        raise ValueError(
            f"{kind}: the metadata entry {RECORD!r} is missing; these bytes were not written by fedmedlora"
        )
    try:
        record = json.loads(metadata[RECORD], object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{kind}: the metadata entry {RECORD!r} is not JSON ({error})") from error
    if not isinstance(record, dict):
        raise ValueError(f"{kind}: the metadata entry {RECORD!r} is not a JSON object")
    found = record.pop("format", None), record.pop("version", None)
    if found != (kind, version):
        raise ValueError(
            f"{kind}: expected format {kind!r} version {version}, "
            f"found {str(found[0])[:40]!r} version {str(found[1])[:20]!r}; "
            "every site and the coordinator must run the same fedmedlora"
        )
    return record


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key[:80]!r} is named twice")
        found[key] = value
    return found
