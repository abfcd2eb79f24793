"""How far several runs at the same time are: a bar for all of them, and one for each that is going."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import TaskID

from fedmedlora.progress import bars_on, minutes


class Jobs:
    """Bars on stderr; without a terminal (a log file, CI) one line per finished stage."""

    def __init__(self, console: Console | None = None) -> None:
        """``console``: where to write; stderr by default."""
        self._console = console or Console(stderr=True)
        self._bars = bars_on(self._console)
        self._whole: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}
        self._shares: dict[str, float] = {}
        self._planned: dict[str, float] = {}
        self._num_finished, self._total = 0, 0
        self._num_before, self._began = 0, time.monotonic()

    def __enter__(self) -> Jobs:
        """Start to draw."""
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop drawing."""
        self._bars.stop()

    def begin(self, num_finished: int, total: int) -> None:
        """``num_finished`` of ``total`` runs were finished before."""
        self._num_finished = self._num_before = num_finished
        self._total, self._began = total, time.monotonic()
        self._whole = self._bars.add_task("all runs", total=total, completed=num_finished, note="")

    def start(self, label: str) -> None:
        """A run starts."""
        self._tasks[label] = self._bars.add_task(label, total=1.0, note="loading")
        self._say(f"{label}: starts")

    def tell(self, label: str, record: Mapping[str, Any]) -> None:
        """What the run has told (``one_run.Told``)."""
        if "planned" in record:
            self._planned[label] = record["planned"]
        if "used" in record:
            planned = max(self._planned.get(label, 0.0), 1e-9)
            self._shares[label] = min(1.0, record["used"] / planned)
            note = " ".join(word for word in (record["stage"], record.get("note", "")) if word)
            self._bars.update(self._tasks[label], completed=self._shares[label], note=note)
            self._show()
        if record.get("done"):
            share = f"{100 * self._shares[label]:.0f} %"
            self._say(f"{label}: {record['stage']}: done ({share}){self._how_far()}")

    def finish(self, label: str) -> None:
        """A run is finished."""
        self._num_finished += 1
        self._shares.pop(label, None)
        self._bars.remove_task(self._tasks.pop(label))
        self._show()
        self._say(f"{label}: finished, {self._num_finished} of {self._total} runs{self._how_far()}")

    def _show(self) -> None:
        if self._whole is not None:
            self._bars.update(self._whole, completed=self._num_finished + sum(self._shares.values()))

    def _how_far(self) -> str:
        """Of all runs, as if those to come took as long as those that went; "" before anything has."""
        done = self._num_finished + sum(self._shares.values())
        if done <= self._num_before or self._num_finished == self._total:
            return ""
        elapsed = time.monotonic() - self._began
        left = elapsed * (self._total - done) / (done - self._num_before)
        share = 100 * done / self._total
        return f" (all runs: {share:.0f} % after {minutes(elapsed)}, about {minutes(left)} left)"

    def _say(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(line, highlight=False, soft_wrap=True, markup=False)
