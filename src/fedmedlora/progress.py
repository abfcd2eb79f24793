"""How far a run is: what is going on now, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Advance(Protocol):
    """Tells how far a stage is."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total``; ``note``: a few words to show beside the bar, never note text."""


class Progress(Protocol):
    """A plan of work in units of cost, and the stages that use it up."""

    def plan(self, cost: float) -> None:
        """The whole run will cost ``cost``."""

    @contextmanager
    def stage(self, label: str, cost: float) -> Iterator[Advance]:
        """A stage of the plan; used up when the block ends."""

    @contextmanager
    def run(self, label: str, number: int, total: int) -> Iterator[None]:
        """Run ``number`` (from 1) of ``total``; it has a plan of its own."""


class Silent:
    """Shows nothing."""

    def plan(self, cost: float) -> None:
        """See ``Progress``."""

    @contextmanager
    def stage(self, label: str, cost: float) -> Iterator[Advance]:
        """See ``Progress``."""
        yield lambda done, total, note="": None

    @contextmanager
    def run(self, label: str, number: int, total: int) -> Iterator[None]:
        """See ``Progress``."""
        yield


class Terminal:
    """Bars on stderr: all runs (of a study of several), the whole run with the time left, the stage at hand.

    Without a terminal (a log file, CI) it writes one line per finished stage, with the share of the run
    that is done and the time left.
    """

    def __init__(self, console: Console | None = None) -> None:
        """``console``: where to write; stderr by default."""
        self._console = console or Console(stderr=True)
        self._bars = bars_on(self._console)
        self._whole = self._bars.add_task("whole run", total=1.0, note="")
        self._planned, self._done, self._began = 0.0, 0.0, time.monotonic()
        self._runs: TaskID | None = None
        self._where, self._num_finished = "", 0

    @staticmethod
    def lines_to(stream: TextIO) -> Terminal:
        """Lines for a file that somebody follows, not bars."""
        return Terminal(Console(file=stream, force_terminal=False, width=200))

    def __enter__(self) -> Terminal:
        """Start to draw."""
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop drawing."""
        self._bars.stop()

    def plan(self, cost: float) -> None:
        """See ``Progress``."""
        self._began = time.monotonic()  # what a resumed run has done already is not in the plan
        self._planned, self._done = cost, 0.0
        self._bars.reset(self._whole, total=max(cost, 1e-9))

    @contextmanager
    def stage(self, label: str, cost: float) -> Iterator[Advance]:
        """See ``Progress``."""
        task = self._bars.add_task(label, total=1.0, note="")

        def advance(done: int, total: int, note: str = "") -> None:
            share = done / max(1, total)
            self._bars.update(task, completed=share, note=note)
            self._show(self._done + cost * share)

        try:
            yield advance
        finally:
            self._bars.remove_task(task)
        self._done += cost
        self._show(self._done)
        self._say(f"{self._where}{label}: done{self._how_far()}")

    @contextmanager
    def run(self, label: str, number: int, total: int) -> Iterator[None]:
        """See ``Progress``. The bar of all runs moves with the run at hand."""
        if self._runs is None:
            self._runs = self._bars.add_task("all runs", total=total, completed=number - 1, note="")
        self._num_finished, self._where = number - 1, f"[{number}/{total}] "
        self._planned = 0.0
        self._bars.update(self._runs, completed=number - 1, note=f"run {number} of {total}: {label}")
        self._say(f"run {number} of {total}: {label}")
        yield
        self._bars.update(self._runs, completed=number)

    def _show(self, done: float) -> None:
        self._bars.update(self._whole, completed=done)
        if self._runs is not None and self._planned > 0:
            share = min(1.0, done / self._planned)
            self._bars.update(self._runs, completed=self._num_finished + share)

    def _say(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _how_far(self) -> str:
        total = self._planned
        if not 0.0 < self._done <= total:
            return ""
        elapsed = time.monotonic() - self._began
        left = elapsed * (total - self._done) / self._done
        return f" ({100 * self._done / total:.0f} % after {minutes(elapsed)}, about {minutes(left)} left)"


def bars_on(console: Console) -> Bars:
    """Bars with their share, the time taken and left, and a ``note``; none where there is no terminal."""
    return Bars(
        TextColumn("{task.description}", justify="left"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
        console=console,
        speed_estimate_period=600,
        disable=not console.is_terminal,
    )


def minutes(seconds: float) -> str:
    """``12 min``, or ``45 s`` where that is short."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
