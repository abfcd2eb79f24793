"""How long a site's programs wait before they ask again: the less, the shorter they have waited.

Flower's SuperNode asks for a message every three seconds, its SuperExec for a task every second, whether the
last one was answered a moment ago or last week. A round asks a site one question after the other, so that
the waiting between them is most of what a short round takes. Here a wait is a tenth of the time that has been
waited for the same thing, and never longer than Flower's own: of the time until something comes a tenth is
lost at most, and where nothing comes for half a minute Flower's pace is kept.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

SHARE = 0.1
LEAST_S = 0.1


class Patience:
    """``time.sleep`` for one loop that looks whether something has come, and sleeps where nothing has."""

    def __init__(
        self, sleep: Callable[[float], None] = time.sleep, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing has been waited for yet. ``now``: seconds on a clock that is never set back."""
        self._sleep, self._now = sleep, now
        self._usual_s: float | None = None
        self._since = now()

    def sleep(self, seconds: float) -> None:
        """Sleep ``seconds`` or less. A loop that waits for something else now sleeps another number of
        seconds, and starts over."""
        if seconds != self._usual_s:
            self._usual_s = seconds
            self.start_over()
        self._sleep(min(seconds, max(LEAST_S, SHARE * (self._now() - self._since))))

    def start_over(self) -> None:
        """What was waited for has come."""
        self._since = self._now()


def install_patience(module: str) -> Patience:
    """From now on the loop in ``module``, one of Flower's, sleeps by the patience that is returned."""
    patience = Patience()
    of_flower: Any = importlib.import_module(module)
    of_flower.time = SimpleNamespace(**{**vars(time), "sleep": patience.sleep})
    return patience
