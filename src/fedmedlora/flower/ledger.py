"""What a site has trained in all, whoever asked: kept in its state, so that no coordinator begins at zero.

A study that is started again, or with one setting changed, is a new one to the site; so what is bounded is
not the study but the site's notes: rounds and optimizer steps, over all studies, methods and tries. A round
is counted before it is trained: one that breaks off has used the notes, too. An update that is only sent
again is not counted. To begin anew, remove the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from fedmedlora.flower.allows import Allows, Refused
from fedmedlora.run_folder import write_json

FILE = "trained.json"


@dataclass(frozen=True, slots=True)
class Ledger:
    """Rounds and optimizer steps that were begun, in a file of ``folder``."""

    folder: Path

    def totals(self) -> tuple[int, int]:
        """(rounds, steps). Raises ``ValueError`` for a damaged file: it is not taken for an empty one."""
        path = self.folder / FILE
        if not path.exists():
            return 0, 0
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            counts = (found["rounds"], found["steps"])
        except (ValueError, KeyError, TypeError):
            counts = (-1, -1)
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise ValueError(
                f"{path}: not what this site has trained; restore it, or remove it to begin anew"
            )
        return counts

    def charge(self, steps: int, allows: Allows) -> None:
        """Count a round of ``steps`` optimizer steps that is about to begin.

        Raises ``Refused`` where that would be more than the site allows, and counts nothing then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / f"{FILE}.lock"):  # without turns, two may train at a time
            rounds, all_steps = self.totals()
            for what, key, one, done, most in (
                ("rounds", "max_total_rounds", 1, rounds, allows.max_total_rounds),
                ("optimizer steps", "max_total_steps", steps, all_steps, allows.max_total_steps),
            ):
                if done + one > most:
                    raise Refused(
                        f"this round would be {done + one} {what} in all that this site has trained, for "
                        f"whatever study; it allows at most {most} ({key})"
                    )
            write_json(self.folder / FILE, {"rounds": rounds + 1, "steps": all_steps + steps})
