from dataclasses import replace

import pytest
from made_up_watch import NOW, live_record

from fedmedlora.watch.status import NOTHING_YET, status_of
from fedmedlora.watch.words import age, clock, time_left


@pytest.mark.parametrize(
    ("utc", "words"),
    [
        ("2026-11-29T14:00:00Z", "0 s ago"),
        ("2026-11-29T13:58:31Z", "89 s ago"),
        ("2026-11-29T13:58:30Z", "1 min ago"),
        ("2026-11-29T12:30:01Z", "89 min ago"),
        ("2026-11-29T12:30:00Z", "1 h ago"),
        ("2026-11-27T14:00:01Z", "47 h ago"),
        ("2026-11-27T14:00:00Z", "2 days ago"),
        ("2026-11-29T14:00:30Z", "0 s ago"),
    ],
)
def test_age(utc, words):
    assert age(utc, NOW) == words


def test_clock():
    assert clock(NOW) == "2026-11-29 14:00:00 UTC"
    assert clock("") == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "about 1 s"), (89.0, "about 89 s"), (125.0, "about 2 min"), (5400.0, "about 1 h 30 min")],
)
def test_time_left(seconds, words):
    status = replace(status_of(live_record(), NOTHING_YET, NOW), num_done=1, num_planned=3)
    assert time_left(replace(status, seconds_left=seconds)) == words
    assert time_left(replace(status, num_done=3, seconds_left=0.0)) == "rounds are done"
    assert time_left(status) == "not known yet"
    assert time_left(replace(status, is_alive=False)) == "not known"
    assert time_left(replace(status, stage="stopped")) == "none"
