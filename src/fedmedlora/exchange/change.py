"""What is sent instead of an adapter where a codec loses something: the change, with error feedback.

Sender and receiver hold the same adapter, ``base``. The sender wants the receiver to hold ``wanted``:

    change   = wanted - base                      what is encoded, array by array
    received = base + decode(encode(change))      what both hold afterwards, bit for bit
    residual = wanted - received                  what the sender keeps, and adds to what it wants next time

Seide et al., "1-Bit Stochastic Gradient Descent and its Application to Data-Parallel Distributed Training
of Speech DNNs", Interspeech 2014 (error feedback); Karimireddy et al., "Error Feedback Fixes SignSGD and
other Gradient Compression Schemes", https://arxiv.org/abs/1901.09847, algorithm 2; Stich et al., "Sparsified
SGD with Memory", https://arxiv.org/abs/1809.07599, algorithm 1 (their memory is the residual). In both
directions: Tang et al., "DoubleSqueeze", https://arxiv.org/abs/1905.05957, algorithm 1. Departs in what is
sent, a round's change of an adapter and not a step's gradient, and in the residual, which also holds what
the addition to ``base`` rounds away.

All arithmetic is float32, one operation at a time, so both sides compute the same. A message says the hash
of what its receiver must end up with, and a receiver that does not refuses it. Clipping and noise, where a
study has any, act on what a site wants to send before it comes here: what follows sees nothing else, so it
reveals nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmedlora.exchange.adapter import Adapter, refuse_non_finite
from fedmedlora.exchange.codec import LARGEST, Codec, codec_name
from fedmedlora.exchange.wire import read_header, read_record
from fedmedlora.exchange.written import read, write, written_bytes

FORMAT = "fedmedlora-change"
VERSION = 1
_NO_HASH = "0" * 64  # stands for one where only the length counts


@dataclass(frozen=True, slots=True)
class Change:
    """A message and what it leads to. ``base``: hash of what its receiver must hold already.

    ``received``: what the receiver holds afterwards. ``residual``: what the sender wanted beyond that.
    """

    message: bytes
    base: str
    received: Adapter
    residual: Adapter


def send(
    codec: Codec,
    base: Adapter,
    wanted: Adapter,
    *,
    kind: str = FORMAT,
    record: Mapping[str, str | int] | None = None,
) -> Change:
    """The message that brings a receiver from ``base`` as near to ``wanted`` as ``codec`` can.

    ``kind``, ``record``: what else the message says. Raises ``ValueError`` where a value to be sent is NaN,
    infinite or beyond any training, naming the array, and where the two have other arrays.
    """
    if base.shapes() != wanted.shapes():
        raise ValueError(f"{kind}: the adapter to send has other arrays than the one it began with")
    with np.errstate(over="ignore", invalid="ignore"):  # found in the next lines
        changes = {name: array - base.arrays[name] for name, array in wanted.arrays.items()}
    for name, array in changes.items():
        if not (np.abs(array) <= LARGEST).all():
            raise ValueError(
                f"{kind}: array {name!r} changed by NaN, infinity or a number beyond any training; "
                "it diverged, try a lower learning_rate or max_grad_norm"
            )
    written = write(codec, changes)
    received = _moved(base, written.received, kind)
    begins = base.hash()
    message = written.to_bytes(_record(kind, codec, begins, received.hash(), record or {}))
    residual = Adapter({name: array - received.arrays[name] for name, array in wanted.arrays.items()})
    return Change(message, begins, received, residual)


def receive(
    data: bytes, codec: Codec, base: Adapter, *, kind: str = FORMAT
) -> tuple[Adapter, dict[str, Any]]:
    """(the adapter that its sender says is held now, the message's record without ``codec`` and ``becomes``).

    Raises ``ValueError`` for anything that ``send`` with this ``codec`` and ``base`` did not write, and where
    a bit that has changed on the way leads to another adapter.
    """
    record = read_record(read_header(data, kind), kind, VERSION)
    begins = base.hash()
    for key, value in (("codec", codec_name(codec)), ("base", begins)):
        if record.get(key) != value:
            raise ValueError(f"{kind}: {key} is {str(record.get(key))[:64]!r}, and here it is {value!r}")
    becomes = record.get("becomes")
    if not isinstance(becomes, str) or not all(type(value) in (str, int) for value in record.values()):
        raise ValueError(f"{kind}: a field of its record is missing or of the wrong kind")
    rest = {key: value for key, value in record.items() if key not in ("codec", "becomes")}
    told = _record(kind, codec, begins, becomes, rest)
    received = _moved(base, read(data, codec, base.shapes(), told, kind=kind), kind)
    if received.hash() != becomes:
        raise ValueError(f"{kind}: leads to another adapter than its sender says; send it again")
    return received, rest


def base_of(data: bytes) -> str:
    """The hash of the adapter that the change ``data`` begins with. Raises ``ValueError`` for no change."""
    base = read_record(read_header(data, FORMAT), FORMAT, VERSION).get("base")
    if not isinstance(base, str):
        raise ValueError(f"{FORMAT}: does not say which adapter it begins with")
    return base


def change_bytes(
    codec: Codec,
    shapes: Mapping[str, Sequence[int]],
    *,
    kind: str = FORMAT,
    record: Mapping[str, str | int] | None = None,
) -> int:
    """``len(send(...).message)`` of adapters with arrays of these ``shapes``."""
    return written_bytes(codec, shapes, _record(kind, codec, _NO_HASH, _NO_HASH, record or {}))


def plus(adapter: Adapter, residual: Adapter | None) -> Adapter:
    """``adapter`` and what was not received so far; itself where there is nothing."""
    if residual is None:
        return adapter
    with np.errstate(over="ignore", invalid="ignore"):  # ``send`` refuses what comes of it
        return Adapter({name: array + residual.arrays[name] for name, array in adapter.arrays.items()})


def _moved(base: Adapter, decoded: Mapping[str, np.ndarray], kind: str) -> Adapter:
    with np.errstate(over="ignore", invalid="ignore"):  # found in the next lines
        moved = Adapter({name: array + decoded[name] for name, array in base.arrays.items()})
    refuse_non_finite(moved, kind)
    return moved


def _record(
    kind: str, codec: Codec, base: str, becomes: str, more: Mapping[str, str | int]
) -> dict[str, str | int]:
    told: dict[str, str | int] = {"format": kind, "version": VERSION, "codec": codec_name(codec)}
    return {**told, "base": base, "becomes": becomes, **more}
