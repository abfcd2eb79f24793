"""One run of a study of many, in a process of its own: ``python -m fedmedlora.one_run``.

The first line of stdin says which one, as JSON; then stdin stays open for as long as the process that asked
is alive. When that is gone, whatever ended it, so is this. Stdout tells how far the run is, one JSON record
a line (``Told``), and what is wrong with it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from fedmedlora.progress import Advance

# Heavy modules are imported within ``main``, after what they could disturb is in order.

_PAUSE_S = 0.5  # between two records of a stage that moves


@dataclass(frozen=True, slots=True)
class Order:
    """Which run: ``run`` is its folder in the study's ``folder``. ``study_hash``: of the study it must be."""

    study: str
    folder: str
    run: str
    study_hash: str
    shared: str
    command: tuple[str, ...]

    def to_line(self) -> str:
        """As a line of stdin."""
        return json.dumps(asdict(self)) + "\n"


class Told:
    """``progress.Progress`` for another process: records on a stream."""

    def __init__(self, stream: IO[str]) -> None:
        """``stream``: nothing else may write to it."""
        self._stream = stream
        self._used, self._last = 0.0, 0.0

    def plan(self, cost: float) -> None:
        """See ``Progress``."""
        self._used = 0.0
        self.tell({"planned": cost})

    @contextmanager
    def stage(self, label: str, cost: float) -> Iterator[Advance]:
        """See ``Progress``."""

        def advance(done: int, total: int, note: str = "") -> None:
            if time.monotonic() - self._last > _PAUSE_S:
                self._last = time.monotonic()
                self.tell({"used": self._used + cost * done / max(1, total), "stage": label, "note": note})

        self.tell({"used": self._used, "stage": label, "note": ""})
        yield advance
        self._used += cost
        self.tell({"used": self._used, "stage": label, "done": True})

    @contextmanager
    def run(self, label: str, number: int, total: int) -> Iterator[None]:
        """See ``Progress``: there is one run alone."""
        yield

    def tell(self, record: dict[str, Any]) -> None:
        """One record, as a line."""
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()


def main() -> int:
    """Do what stdin says. Exit code 0, or 2 where the study, its notes or its folder are not right."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asked gets it too, and says what is next
    told = Told(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # what libraries print, Python's or not, is no record
    sys.stdout = sys.stderr
    order = Order(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_leave_with_the_one_who_asked, daemon=True).start()

    from fedmedlora.experiment import run_study
    from fedmedlora.model.memory import keep_freed_memory
    from fedmedlora.run_folder import write_json
    from fedmedlora.study import StudyWarning, load_study
    from fedmedlora.study_runs import runs_of

    keep_freed_memory()
    warnings.simplefilter("ignore", StudyWarning)  # the one who asked has said them
    try:
        found = [r for r in runs_of(load_study(Path(order.study))) if r.folder == order.run]
        if not found or found[0].study.study_hash() != order.study_hash:
            raise ValueError(f"{order.study}: changed while it was run; go on with --resume")
        (run,) = found
        here = Path(order.folder) / run.folder
        results = run_study(
            run.study,
            here,
            resume=(here / "run.json").exists(),
            progress=told,
            command=tuple(order.command),
            shared=Path(order.shared),
        )
        write_json(here / "results.json", results)
    except (ValueError, OSError) as error:
        told.tell({"error": str(error)})
        return 2
    return 0


def _leave_with_the_one_who_asked() -> None:
    sys.stdin.read()  # returns when the other end is closed, by whatever
    os._exit(3)  # every file is written whole or not at all, so nothing is half done


if __name__ == "__main__":
    sys.exit(main())
