"""Hours of the day: worked by hand around their edges and over midnight."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora.flower.hours import Hours

MINUTES = st.integers(0, 24 * 60 - 1)


def at(time: str) -> datetime:
    """``time`` of the 5th of March."""
    return datetime.fromisoformat(f"2026-03-05T{time}")


@pytest.mark.parametrize(
    ("hours", "now", "opens_in_s"),
    [
        ("08:00-17:30", "08:00", 0),  # included
        ("08:00-17:30", "17:29:59", 0),
        ("08:00-17:30", "17:30", 14.5 * 3600),  # not included; 6.5 h to midnight and 8 h more
        ("08:00-17:30", "07:59:30", 30),
        ("08:00-17:30", "00:00", 8 * 3600),
        ("20:00-06:00", "20:00", 0),
        ("20:00-06:00", "23:59:59", 0),
        ("20:00-06:00", "00:00", 0),
        ("20:00-06:00", "05:59:59", 0),
        ("20:00-06:00", "06:00", 14 * 3600),
        ("20:00-06:00", "19:59", 60),
        ("00:00-00:01", "00:00:59", 0),
        ("00:00-00:01", "00:01", 24 * 3600 - 60),
        ("23:59-00:00", "23:59", 0),
        ("23:59-00:00", "00:00", 24 * 3600 - 60),
    ],
)
def test_when_it_opens(hours, now, opens_in_s):
    assert Hours.of(hours).opens_in_s(at(now)) == opens_in_s
    assert str(Hours.of(hours)) == hours


@pytest.mark.parametrize(
    "text", ["", "20-06", "20:00", "8:00-17:00", "24:00-06:00", "20:60-06:00", "20:00-06:00\n", "20:00–06:00"]
)
def test_what_is_no_hours(text):
    with pytest.raises(ValueError, match='write them as "20:00-06:00"'):
        Hours.of(text)


def test_no_time_at_all():
    with pytest.raises(ValueError, match="begins where it ends"):
        Hours.of("20:00-20:00")


@given(MINUTES, MINUTES, MINUTES)
def test_whoever_asks_when_it_opens_is_let_in_and_not_before(begin, end, minute):
    if begin == end:
        return
    hours, now = Hours(begin, end), at("00:00") + timedelta(minutes=minute)
    wait_s = hours.opens_in_s(now)
    assert 0 <= wait_s < 24 * 3600
    assert hours.opens_in_s(now + timedelta(seconds=wait_s)) == 0
    if wait_s:
        assert hours.opens_in_s(now + timedelta(seconds=wait_s - 1)) == 1
