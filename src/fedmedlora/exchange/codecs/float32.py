"""Every value as it is, 4 bytes: the default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedmedlora.exchange.codec import Spec


@dataclass(frozen=True, slots=True)
class Float32:
    """No settings."""

    @property
    def is_exact(self) -> bool:
        """Nothing is lost."""
        return True

    def specs(self, shape: Sequence[int]) -> dict[str, Spec]:
        """The array itself."""
        return {"": Spec("F32", tuple(shape))}

    def encode(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """The array itself."""
        return {"": array}

    def decode(self, parts: Mapping[str, np.ndarray], shape: Sequence[int]) -> np.ndarray:
        """The array itself."""
        return parts[""].astype(np.float32)


CODEC = Float32
