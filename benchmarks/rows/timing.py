"""Several ways to do the same, timed in turn, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from rows.setting import Setting, say

T = TypeVar("T")


def synchronize(device: str) -> None:
    """Wait for what was started on a GPU."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def timed(work: Callable[[], T], device: str) -> tuple[float, T]:
    """(seconds, what ``work`` returns)."""
    synchronize(device)
    began = time.perf_counter()
    result = work()
    synchronize(device)
    return time.perf_counter() - began, result


def in_turn(
    ways: Mapping[str, Callable[[], tuple[float, T]]], setting: Setting, *, warm: bool = True
) -> tuple[dict[str, list[float]], dict[str, T]]:
    """({way: seconds of each repetition}, {way: what it returned last}).

    Each way returns its own seconds, for it knows what belongs to them. ``warm``: one turn before the others
    does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, T] = {}
    for number in range(setting.rounds() + warm):
        for name, way in ways.items():
            took, results[name] = way()
            counts = number >= warm
            if counts:
                seconds[name].append(took)
            say(f"  {name}: {took:.3f} s{'' if counts else ' (warming up)'}")
    return seconds, results
