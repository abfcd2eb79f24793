"""Updates that must all be there before any can be weighed: some in memory, the rest on the disk.

The first ones stay in memory, up to ``HELD_BYTES`` of arrays; those that come later are written to files of
their own, and an adapter's arrays are read back one at a time, each time they are asked for. So memory stays
the same however many sites there are, and those of a few sites stay in it. Bits are those of the arrays that
came. What the run keeps of updates to go on with (``run_folder.UpdateCache``) is another thing, and whole.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.stored import StoredArrays
from fedmedlora.exchange.update import SiteUpdate

HELD_BYTES = 1 << 30  # six adapters of an 8B model at rank 16


@contextmanager
def spilling(folder: Path | None) -> Iterator[Callable[[SiteUpdate], SiteUpdate]]:
    """Gives a function that keeps an update, and returns it as it is or with its adapter on the disk.

    ``folder``: this process's alone (what a killed one left there is removed), made where it is needed,
    readable by the owner only, and removed at the end, also after an error; adapters in it cannot be read
    then. None: one in the system's temporary folder.
    """
    where = folder
    num_held, num_files = 0, 0
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)

    def keep(update: SiteUpdate) -> SiteUpdate:
        nonlocal where, num_held, num_files
        num_bytes = update.adapter.num_bytes
        if num_held + num_bytes <= HELD_BYTES:
            num_held += num_bytes
            return update
        if not num_files:
            where = _made(folder)
        assert where is not None
        num_files += 1
        # By number: a site's name names no file.
        arrays = StoredArrays(where / f"{num_files:06d}.safetensors", update.adapter.arrays)
        return replace(update, adapter=Adapter.stored(arrays))

    try:
        yield keep
    finally:
        if num_files and where is not None:
            shutil.rmtree(where, ignore_errors=True)


def _made(folder: Path | None) -> Path:
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="fedmedlora-updates-"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    return folder
