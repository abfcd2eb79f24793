"""Arrays as a codec writes them and a small record, to safetensors bytes and back.

The layout of ``wire.py`` for arrays of other kinds than float32, bfloat16 among them, which neither numpy nor
the library's numpy interface knows. Who reads knows the shapes already, from the adapter that the change
belongs to, so there is one header that may stand there, byte for byte: anything else is refused, and no
length that a message claims is believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmedlora.exchange.codec import CARRIED_BY, Codec, Spec
from fedmedlora.exchange.wire import head, read_header

Shapes = Mapping[str, Sequence[int]]
Record = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Written:
    """Arrays by a codec. ``received``: what a reader gets of them. ``specs``, ``parts``: what is written."""

    specs: dict[str, Spec]
    parts: dict[str, np.ndarray]
    received: dict[str, np.ndarray]

    def to_bytes(self, record: Record) -> bytes:
        """With ``record``, as ``read`` wants it. Equal arrays and records give equal bytes."""
        contents = (
            np.ascontiguousarray(self.parts[name], dtype=CARRIED_BY[spec.dtype]).tobytes()
            for name, spec in self.specs.items()
        )
        return b"".join((_head(self.specs, record), *contents))


def write(codec: Codec, arrays: Mapping[str, np.ndarray]) -> Written:
    """``arrays`` by ``codec``, whose law about finite values they keep."""
    parts: dict[str, np.ndarray] = {}
    received = {}
    for name, array in arrays.items():
        found = codec.encode(array)
        parts |= {_part_name(name, part): content for part, content in found.items()}
        received[name] = codec.decode(found, array.shape)
    specs = _specs(codec, {name: array.shape for name, array in arrays.items()})
    assert {name: part.shape for name, part in parts.items()} == {n: s.shape for n, s in specs.items()}
    return Written(specs, parts, received)


def written_bytes(codec: Codec, shapes: Shapes, record: Record) -> int:
    """``len(write(...).to_bytes(record))`` of arrays of these ``shapes``, without the arrays."""
    specs = _specs(codec, shapes)
    return len(_head(specs, record)) + sum(spec.num_bytes for spec in specs.values())


def read(data: bytes, codec: Codec, shapes: Shapes, record: Record, *, kind: str) -> dict[str, np.ndarray]:
    """The arrays of ``shapes`` in ``data``, which ``Written.to_bytes`` wrote with ``record``. All are finite.

    Raises ``ValueError``, which ``kind`` begins, for anything else: another kind or shape of array, one too
    many or too few, bytes too many or too few, and content that the codec does not write.
    """
    specs = _specs(codec, shapes)
    begins = _head(specs, record)
    if data[: len(begins)] != begins:
        raise ValueError(f"{kind}: {_difference(read_header(data, kind), specs)}; send it again")
    expected = len(begins) + sum(spec.num_bytes for spec in specs.values())
    if len(data) != expected:
        raise ValueError(f"{kind}: {len(data)} bytes where its arrays take {expected}; send it again")
    parts: dict[str, np.ndarray] = {}
    start = len(begins)
    for name, spec in specs.items():
        num = spec.num_bytes // CARRIED_BY[spec.dtype].itemsize
        parts[name] = np.frombuffer(data, CARRIED_BY[spec.dtype], num, start).reshape(spec.shape)
        start += spec.num_bytes
    arrays = {}
    for name, shape in shapes.items():
        of_array = {part: parts[_part_name(name, part)] for part in codec.specs(shape)}
        try:
            arrays[name] = codec.decode(of_array, shape)
        except ValueError as error:
            raise ValueError(f"{kind}: array {name[:80]!r}: {error}") from error
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{kind}: array {name[:80]!r} holds NaN or infinity")
    return arrays


def _part_name(name: str, part: str) -> str:
    """How the part of an array is called: no two are called the same, for no codec has only some parts."""
    return f"{name}|{part}" if part else name


def _specs(codec: Codec, shapes: Shapes) -> dict[str, Spec]:
    """Every part, in the order of the bytes: long items first, so that all are aligned."""
    found = {
        _part_name(name, part): spec
        for name, shape in shapes.items()
        for part, spec in codec.specs(shape).items()
    }
    return dict(sorted(found.items(), key=lambda item: (-CARRIED_BY[item[1].dtype].itemsize, item[0])))


def _head(specs: Mapping[str, Spec], record: Record) -> bytes:
    return head([(name, spec.dtype, spec.shape, spec.num_bytes) for name, spec in specs.items()], record)


def _difference(header: Mapping[str, Any], specs: Mapping[str, Spec]) -> str:
    """In what ``header`` differs, for people."""
    missing = [name for name in specs if name not in header]
    beyond = [name for name in header if name not in specs and name != "__metadata__"]
    for names, what in ((missing, "is missing"), (beyond, "does not belong here")):
        if names:
            return f"array {names[0][:80]!r} {what}"
    for name, spec in specs.items():
        entry = header[name] if isinstance(header[name], dict) else {}
        if entry.get("dtype") != spec.dtype:
            return (
                f"array {name[:80]!r} has dtype {str(entry.get('dtype'))[:20]!r}; here {spec.dtype} travels"
            )
        if entry.get("shape") != list(spec.shape):
            return f"array {name[:80]!r} has another shape than {list(spec.shape)}"
    return "its header is written in another way, or its record is another"
