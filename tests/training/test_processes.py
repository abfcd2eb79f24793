"""Shares of the cores and ends of processes, in words."""

from __future__ import annotations

import os

import pytest

from fedmedlora.training.processes import end_in_words, num_cores, threads_of_each


def test_threads_of_each():
    assert threads_of_each(2, {"OMP_NUM_THREADS": "8"}) == 4
    assert threads_of_each(3, {"OMP_NUM_THREADS": "2"}) == 1
    for told in ({}, {"OMP_NUM_THREADS": "many"}, {"OMP_NUM_THREADS": "0"}):
        assert threads_of_each(1, told) == num_cores()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert num_cores() == cores


@pytest.mark.parametrize(
    ("code", "remedy", "words"),
    [
        (0, "", "ended with exit code 0"),
        (5, "; take fewer", "ended with exit code 5"),
        (-9, "", "was ended by signal 9 (SIGKILL: where memory ran out, by the system)"),
        (
            -9,
            "; take fewer",
            "was ended by signal 9 (SIGKILL: where memory ran out, by the system; take fewer)",
        ),
        (-15, "; take fewer", "was ended by signal 15"),
    ],
)
def test_an_end_in_words(code, remedy, words):
    assert end_in_words(code, remedy=remedy) == words
