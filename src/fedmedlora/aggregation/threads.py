"""Work on parts of arrays by several threads: numpy lets go of Python's lock while it computes.

Every part is worked on by itself, so the result has the same bits whatever the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import TypeVar

PART = 1 << 18  # numbers of an array that are worked on by one thread at a time
_MOST = 8  # more would wait for Python's lock
_WORTH_IT = 1 << 20  # numbers below which starting threads costs more than it saves

Room = TypeVar("Room")


def in_parts(
    shapes: Mapping[str, tuple[int, ...]],
    room: Callable[[], Room],
    work: Callable[[Room, str, int, int], None],
    *,
    per_number: int = 1,
) -> None:
    """``work(room, name, start, stop)`` for every part of every array of ``shapes``, flat.

    Parts never overlap. ``room``: makes what a thread works in, once for all of its parts: memory that is new
    to the process is slow. ``per_number``: how often each number is touched, by which small work is known.
    What ``work`` raises is raised.
    """
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    parts = [
        (name, start, min(start + PART, size))
        for name, size in sizes.items()
        for start in range(0, size, PART)
    ]
    waiting = iter(parts)  # a list's iterator gives each part to one thread

    def some(waiting: Iterator[tuple[str, int, int]]) -> None:
        own = room()
        for part in waiting:
            work(own, *part)

    num_threads = min(num_cores(), len(parts), _MOST)
    if num_threads < 2 or per_number * sum(sizes.values()) < _WORTH_IT:
        some(waiting)
        return
    with ThreadPoolExecutor(num_threads) as pool:
        for found in [pool.submit(some, waiting) for _ in range(num_threads)]:
            found.result()


def num_cores() -> int:
    """Cores that this process may use, or fewer where ``OMP_NUM_THREADS`` says so, as in other arithmetic."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    told = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(told)) if told.isdecimal() and int(told) else cores
