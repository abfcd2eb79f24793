"""An ``Adapter``: the trained low-rank arrays, by name, as float32. It is all that training leaves behind."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

import numpy as np

from fedmedlora.exchange.stored import StoredArrays
from fedmedlora.exchange.wire import pack, packed_bytes, unpack

FORMAT = "fedmedlora-adapter"
VERSION = 1
MAX_NAME = 512  # characters of an array's name
_RECORD: dict[str, str | int] = {"format": FORMAT, "version": VERSION}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Adapter:
    """Named float32 arrays, names in code-point order, copied on the way in and read-only after.

    Two adapters are equal when they are equal bit for bit (-0.0 is not 0.0; NaN equals itself).
    Values may be NaN or infinite: a diverged training is a fact. ``non_finite`` finds them.
    Raises ValueError for no arrays, an empty name, or a dtype other than float32.
    """

    arrays: Mapping[str, np.ndarray]  # name -> (rank, d_in) for A, (d_out, rank) for B

    def __post_init__(self) -> None:
        if not self.arrays:
            raise ValueError("an adapter holds at least one array, got none")
        own: dict[str, np.ndarray] = {}
        for name in sorted(self.arrays):
            array = self.arrays[name]
            if not 1 <= len(name) <= MAX_NAME or name == "__metadata__":
                raise ValueError(
                    f"{name[:MAX_NAME]!r} cannot name an array of an adapter; "
                    f"use 1 to {MAX_NAME} characters other than '__metadata__'"
                )
            if not isinstance(array, np.ndarray) or array.dtype != np.dtype("float32"):
                kind = getattr(array, "dtype", type(array).__name__)
                raise ValueError(
                    f"array {name!r} is {kind}, an adapter holds numpy float32; "
                    "convert it with .astype(numpy.float32)"
                )
            own[name] = np.array(array, dtype=np.float32, order="C", copy=True, subok=False)
            own[name].setflags(write=False)
        object.__setattr__(self, "arrays", MappingProxyType(own))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Adapter) and self.hash() == other.hash()

    def __hash__(self) -> int:
        return hash(self.hash())

    def __repr__(self) -> str:
        return f"Adapter(num_arrays={len(self.arrays)}, num_parameters={self.num_parameters})"

    @property
    def num_parameters(self) -> int:
        """Numbers in all arrays together."""
        return sum(prod(shape) for shape in self.shapes().values())

    @property
    def num_bytes(self) -> int:
        """Bytes of the arrays alone: 4 per parameter. ``len(to_bytes())`` adds the header."""
        return 4 * self.num_parameters

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """name -> shape, in name order."""
        if isinstance(self.arrays, StoredArrays):
            return dict(self.arrays.shapes)
        return {name: array.shape for name, array in self.arrays.items()}

    @staticmethod
    def stored(arrays: StoredArrays) -> Adapter:
        """An adapter whose arrays stay on the disk. Where one is used twice, read it once: ``loaded``."""
        adapter = object.__new__(Adapter)
        object.__setattr__(adapter, "arrays", arrays)
        return adapter

    @property
    def is_stored(self) -> bool:
        """Whether the arrays are on the disk, and every look at one reads it."""
        return isinstance(self.arrays, StoredArrays)

    def loaded(self) -> Adapter:
        """The same adapter with its arrays in memory."""
        return Adapter(self.arrays) if self.is_stored else self

    def non_finite(self) -> str | None:
        """Name of the first array that holds NaN or infinity, or None."""
        return next((name for name, array in self.arrays.items() if not np.isfinite(array).all()), None)

    def hash(self) -> str:
        """sha256 (64 hex digits) over names, shapes and values.

        Hashed, in this order: ``b"fedmedlora-adapter-1"``; then for each array in name order: the
        name's length in UTF-8 bytes, the name, the number of dimensions, each dimension, the values as
        little-endian float32 in C order. Lengths and dimensions are 8-byte little-endian integers.
        """
        digest = hashlib.sha256(b"fedmedlora-adapter-1")
        for name, array in self.arrays.items():
            encoded = name.encode("utf-8")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
            digest.update(b"".join(n.to_bytes(8, "little") for n in (array.ndim, *array.shape)))
            digest.update(array.astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """safetensors bytes; equal adapters give equal bytes."""
        return pack(self.arrays, _RECORD)

    @staticmethod
    def from_bytes(data: bytes, *, check_finite: bool = False) -> Adapter:
        """The adapter that ``to_bytes`` wrote, bit for bit.

        Raises ValueError when ``data`` is anything else (see ``wire.unpack``), or holds NaN or infinity
        and ``check_finite`` is set. An adapter in PEFT's own format is read by ``model/``, not here.
        """
        arrays, record = unpack(data, kind=FORMAT, version=VERSION)
        if record:
            raise ValueError(
                f"{FORMAT}: unknown metadata {str(sorted(record))[:200]}; allowed: format, version"
            )
        adapter = Adapter(arrays)
        if check_finite:
            refuse_non_finite(adapter, FORMAT)
        return adapter


def adapter_bytes(shapes: Mapping[str, Sequence[int]]) -> int:
    """``len(to_bytes())`` of an adapter with arrays of these ``shapes``."""
    return packed_bytes(shapes, _RECORD)


def refuse_non_finite(adapter: Adapter, whose: str) -> None:
    """Raise ValueError when ``adapter`` holds NaN or infinity; ``whose`` begins the message."""
    name = adapter.non_finite()
    if name is not None:
        raise ValueError(
            f"{whose}: array {name!r} holds NaN or infinity; the training diverged, "
            "try a lower learning_rate or max_grad_norm"
        )
