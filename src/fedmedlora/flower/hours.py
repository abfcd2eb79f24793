"""Hours of the day, such as ``20:00-06:00``: whether it is time, and how long until then."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True, slots=True)
class Hours:
    """From ``begin`` (included) to ``end`` (not included), in minutes; over midnight if end < begin."""

    begin: int
    end: int

    @staticmethod
    def of(text: str) -> Hours:
        """Read ``"20:00-06:00"``. Raises ``ValueError``."""
        found = _HOURS.fullmatch(text)
        if found is None:
            raise ValueError(
                f'hours: {text[:40]!r} are none; write them as "20:00-06:00", or "" for any time'
            )
        begin_h, begin_min, end_h, end_min = map(int, found.groups())
        hours = Hours(60 * begin_h + begin_min, 60 * end_h + end_min)
        if hours.begin == hours.end:
            raise ValueError(f'hours: {text!r} begins where it ends; write "" for any time')
        return hours

    def opens_in_s(self, now: datetime) -> float:
        """Seconds from ``now``, local time, until they begin; 0 within them.

        Told by the clock on the wall: in the two nights a year in which that jumps, an hour too much or too
        little. Whoever asks too early is told again.
        """
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        minute = 60 * now.hour + now.minute
        if self.begin < self.end:
            is_open = self.begin <= minute < self.end
        else:
            is_open = minute >= self.begin or minute < self.end
        if is_open:
            return 0.0
        opens = midnight + timedelta(minutes=self.begin, days=1 if minute >= self.begin else 0)
        return (opens - now).total_seconds()

    def __str__(self) -> str:
        return "-".join(f"{m // 60:02d}:{m % 60:02d}" for m in (self.begin, self.end))
