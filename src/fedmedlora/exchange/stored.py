"""Arrays that stay in a safetensors file: each is read when it is asked for, and kept by who asked alone.

Not what travels (``wire.py``): a process writes such a file for itself, to hold more than its memory does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file


class StoredArrays(Mapping[str, np.ndarray]):
    """Name -> float32 array, read-only, in code-point order of names. Shapes are known without reading.

    The file must stay as it was written while this is used. Raises ``OSError`` where it does not.
    """

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        """Write ``arrays`` to ``path``, bit for bit. Not flushed to the disk: it outlives no process.

        Raises ``OSError`` where that is not possible.
        """
        try:
            save_file(dict(arrays), path)
        except (OSError, SafetensorError) as error:
            num_bytes = sum(array.nbytes for array in arrays.values())
            raise OSError(
                f"{path}: {num_bytes:,} bytes of an adapter, more than memory should hold, cannot be written "
                f"there ({error}); make room on that disk and go on with --resume"
            ) from error
        self._path = path
        self.shapes = MappingProxyType({name: arrays[name].shape for name in sorted(arrays)})

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.shapes:
            raise KeyError(name)
        try:
            # Opened each time: what was read through an open file would count as this process's memory.
            with safe_open(self._path, framework="numpy") as file:
                array: np.ndarray = file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise OSError(
                f"{self._path}: an array that was put there is gone or damaged ({error}); nothing else may "
                "write there while a run goes on. Go on with --resume"
            ) from error
        array.setflags(write=False)
        return array

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)
