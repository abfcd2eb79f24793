"""Turns at even distances, on a clock of the test's own."""

from __future__ import annotations

import threading

import pytest

from fedmedlora.endpoint.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_one_turn_every_interval():
    clock = Clock()
    pace = Pace(120, clock=lambda: clock.now, sleep=clock.sleep)  # every 0.5 s
    turns = []
    for pause in (0.0, 0.0, 0.2, 3.0, 0.0):
        clock.now += pause
        pace.wait()
        turns.append(clock.now)
    # 0; 0.5; asked at 0.7, let through at 1.0; asked at 4.0, at once; 4.5. Idle time is not saved up.
    assert turns == pytest.approx([0.0, 0.5, 1.0, 4.0, 4.5])
    assert clock.slept == pytest.approx([0.5, 0.3, 0.5])


def test_no_limit_never_waits():
    clock = Clock()
    pace = Pace(0, clock=lambda: clock.now, sleep=clock.sleep)
    for _ in range(1000):
        pace.wait()
    assert clock.slept == []


def test_threads_that_come_together_each_get_a_turn_of_their_own():
    slept, lock = [], threading.Lock()

    def sleep(seconds):
        with lock:
            slept.append(seconds)

    pace = Pace(60, clock=lambda: 0.0, sleep=sleep)
    threads = [threading.Thread(target=pace.wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slept) == [1, 2, 3, 4, 5, 6, 7]


def test_a_reader_keeps_the_pace_from_one_reading_to_the_next(server, ask):
    import time

    from fedmedlora.endpoint.reader import EndpointReader
    from fedmedlora.endpoint.settings import Endpoint

    endpoint = Endpoint(url=server.url, model="m", requests_per_minute=600, max_retries=0)  # every 0.1 s
    reader = EndpointReader(endpoint, lambda done, total: None)
    came = []
    answer = server.answer

    def note_time(body):
        came.append(time.monotonic())
        return answer(body)

    server.answer = note_time
    reader.read([ask("a"), ask("b")])
    reader.read([ask("c")])
    assert came[2] - came[0] > 0.18
