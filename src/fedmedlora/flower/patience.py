"""How long a site's program waits before it asks again: the less, the shorter it has waited.

Flower's SuperNode asks for a message every three seconds, whether the last one came a moment ago or last
week, and looks every half second whether its answer is there. A round asks a site one question after the
other, so that this is much of what a short round takes. Here a wait is a tenth of the time that has been
waited for the same thing, within limits: never longer than Flower's, so that where nothing comes for half a
minute its pace is kept, and never shorter than ``LEAST_S``, so that a hundred sites that have answered
together ask some two hundred times a second and no more often.
"""

from __future__ import annotations

import importlib
import random
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

SUPERNODE = "flwr.supernode.start_client_internal"
SHARE = 0.1
# What Flower's loop sleeps -> what is slept at least: where no message was there, and where no answer was.
LEAST_S: Mapping[float, float] = {3: 0.5, 0.5: 0.1}
SPREAD = 0.2  # sites that began to wait together do not ask together


class Patience:
    """``time.sleep`` for the SuperNode's loop, which sleeps where what it waits for has not come."""

    def __init__(
        self,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Nothing has been waited for yet. ``now``: seconds on a clock that is never set back."""
        self._sleep, self._now, self._draw = sleep, now, draw
        self._usual_s: float | None = None
        self._since = 0.0

    def sleep(self, seconds: float) -> None:
        """Sleep ``seconds``, or less if that is one of the two that are known.

        Where the other one was slept last, something has come since, and is waited for from now on.
        """
        least = LEAST_S.get(seconds)
        if least is None:
            self._sleep(seconds)
            return
        if seconds != self._usual_s:
            self._usual_s, self._since = seconds, self._now()
        wait = max(least, SHARE * (self._now() - self._since))
        self._sleep(min(seconds, wait * self._draw(1 - SPREAD, 1 + SPREAD)))


def install_patience() -> None:
    """From now on a SuperNode of this process sleeps by a ``Patience``."""
    supernode: Any = importlib.import_module(SUPERNODE)
    supernode.time = SimpleNamespace(**{**vars(time), "sleep": Patience().sleep})
