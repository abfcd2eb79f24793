"""What a codec is, and how one is found by name.

A codec writes the float32 arrays of an adapter in fewer bytes. It is one file in ``codecs/`` that holds a
frozen dataclass whose fields are its settings, and the line ``CODEC = TheClass``; the file's name is the
codec's name in a study's TOML. A codec that is not exact writes *changes* (``change.py``), and its sender
keeps what the receiver did not get and adds it the next time.

Laws, for every codec (``tests/exchange/test_codec_contract.py``):

1. ``decode(encode(array))`` has the array's shape and is float32; an exact codec gives it back bit for bit.
2. No value comes back farther from itself than zero is, so a zero comes back as zero; and where some value
   is at least 2**-99, the error of all together (the root of the sum of squares) is less than they are. Error
   feedback needs that: Karimireddy et al., https://arxiv.org/abs/1901.09847, assumption A.
3. The same array gives the same bytes: rounding is not random, and ties have a rule.
4. ``specs`` says of a shape alone what ``encode`` writes for it, part by part, so sizes are known before.
5. ``encode`` is given finite values of at most ``LARGEST``; who calls it sees to that.
6. ``decode`` is given parts of the kinds and shapes in ``specs``, with any content; it raises ``ValueError``
   for content that ``encode`` does not write, or gives back values of which some may be infinite or NaN. Who
   calls it refuses those.
7. Inputs are not changed.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Literal, Protocol, cast

import numpy as np

import fedmedlora.exchange.codecs

EXACT = "float32"  # the default, and the only codec that loses nothing
LARGEST = 2.0**126  # no codec's arithmetic overflows below it, and no training gets there
Dtype = Literal["F32", "BF16", "I8", "U8", "U32"]  # as safetensors calls them
CARRIED_BY: dict[Dtype, np.dtype[np.generic]] = {  # numpy has no bfloat16: its bits are whole numbers here
    "F32": np.dtype("<f4"),
    "BF16": np.dtype("<u2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "U32": np.dtype("<u4"),
}


@dataclass(frozen=True, slots=True)
class Spec:
    """Kind and shape of one part of a written array."""

    dtype: Dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of the part."""
        return CARRIED_BY[self.dtype].itemsize * math.prod(self.shape)


class Codec(Protocol):
    """What a file in ``codecs/`` holds. The laws are in the module docstring."""

    @property
    def is_exact(self) -> bool:
        """Whether every value comes back bit for bit. Then whole adapters travel, and nothing is kept."""

    def specs(self, shape: Sequence[int]) -> dict[str, Spec]:
        """Part -> what it is, for an array of this ``shape``. The part "" is the array itself."""

    def encode(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """The parts of ``array`` (float32), as numpy carries them (``CARRIED_BY``)."""

    def decode(self, parts: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """The array (float32) of ``shape`` that ``parts`` stand for."""


@cache
def known_codecs() -> tuple[str, ...]:
    """Names of all codecs, the exact one first."""
    names = sorted(module.name for module in pkgutil.iter_modules(fedmedlora.exchange.codecs.__path__))
    return tuple(sorted(names, key=lambda name: name != EXACT))


def load_codec(name: str, settings: Mapping[str, object] | None = None) -> Codec:
    """The codec in the file ``name``; of ``settings`` those that it has. Raises ``ValueError`` for others."""
    if name not in known_codecs():
        raise ValueError(f"unknown codec {name[:80]!r}; known codecs: {', '.join(known_codecs())}")
    codec = importlib.import_module(f"fedmedlora.exchange.codecs.{name}").CODEC
    own = {field.name for field in fields(codec)}
    return cast(Codec, codec(**{key: value for key, value in (settings or {}).items() if key in own}))


def codec_name(codec: Codec) -> str:
    """The name under which ``codec`` was found: that of its file."""
    return type(codec).__module__.rpartition(".")[2]
