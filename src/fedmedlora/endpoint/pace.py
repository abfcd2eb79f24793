"""Requests at even distances: the first at once, each of the rest an interval after the one before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Pace:
    """Lets callers of many threads through, one every ``interval_s``."""

    def __init__(
        self,
        requests_per_minute: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """``requests_per_minute`` 0: nobody waits."""
        self.interval_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next = float("-inf")

    def wait(self, sleep: Callable[[float], object] | None = None) -> None:
        """Return when it is this caller's turn. ``sleep``: instead of the usual one; it may end early."""
        with self._lock:  # taken for the turn, not for the wait
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self.interval_s
        if turn > now:
            (sleep or self._sleep)(turn - now)
