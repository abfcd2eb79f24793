"""The adapters that a site was sent, for the next change to begin with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.own_parts import keep_last_used
from fedmedlora.run_folder import write_file


@dataclass(frozen=True, slots=True)
class HeldAdapters:
    """Of each method the adapter that the last round began with, and the one that its change began with.

    The latter in case the answer is lost and the same change comes again. Losing all of it costs bytes only:
    a site that lacks what a change begins with is sent the whole adapter. ``whose``, ``most``: see
    ``own_parts.OwnParts``.
    """

    folder: Path
    most: int = 0

    def load(self, whose: str, hash_: str) -> Adapter | None:
        """The adapter of that hash, or None where it is not here or was damaged."""
        for path in self._folder(whose).glob("*.safetensors"):
            if path.stem == hash_:  # compared, not joined: it has come over a network
                try:
                    found = Adapter.from_bytes(path.read_bytes(), check_finite=True)
                except (OSError, ValueError):
                    return None
                return found if found.hash() == hash_ else None
        return None

    def save(self, whose: str, current: Adapter, base: Adapter | None) -> None:
        """Keep ``current``, and of what was there ``base`` alone."""
        folder, name = self._folder(whose), current.hash()
        write_file(folder / f"{name}.safetensors", current.to_bytes())
        kept = {name} if base is None else {name, base.hash()}
        for path in folder.glob("*.safetensors"):
            if path.stem not in kept:
                path.unlink()
        keep_last_used(self.folder, self.most, folder)

    def _folder(self, whose: str) -> Path:
        # A method's name may have come over a network: it names no path.
        return self.folder / hashlib.sha256(whose.encode()).hexdigest()[:16]
