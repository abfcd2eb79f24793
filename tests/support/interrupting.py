"""A progress that stops the program where a test wants it to stop."""

from __future__ import annotations

from contextlib import contextmanager


class Interrupting:
    """Presses Ctrl-C when a stage begins (or has begun) for the ``at``-th time."""

    def __init__(self, at: int = -1, *, inside: bool = False) -> None:
        self.at, self.inside = at, inside
        self.labels: list[str] = []
        self.planned: list[float] = []
        self.spent = 0.0

    def plan(self, cost: float) -> None:
        self.planned.append(cost)

    @contextmanager
    def stage(self, label: str, cost: float):
        self.labels.append(label)
        now = len(self.labels) - 1 == self.at
        if now and not self.inside:
            raise KeyboardInterrupt

        def advance(done: int, total: int, note: str = "") -> None:
            if now:
                raise KeyboardInterrupt

        yield advance
        self.spent += cost
