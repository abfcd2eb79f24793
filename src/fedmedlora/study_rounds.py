"""``[rounds]`` of a study file: when a round goes on without a site, and which updates it lets in."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fedmedlora.settings import Range, setting

# Weights are about 0.02 in size: a base model's norm is 0.02 sqrt(parameters), so 230 for 135 million of them
# and 5300 for 70 billion. Training moves a model by a small part of that.
MOST_CHANGE = 10_000.0


@dataclass(frozen=True, slots=True)
class Rounds:
    """``[rounds]``: what a round does about sites that do not answer, or answer what it cannot use."""

    quorum: float = setting(
        "share of the sites asked whose updates a round needs, rounded up; with fewer the run stops, and "
        "goes on with --resume. Scoring by the sites, and reading their test notes, need as many",
        1.0,
        within=Range(low=0, high=1, open_low=True),
    )
    deadline_s: float = setting(
        "seconds after which a round no longer waits, once it has its quorum; 0: it waits for all",
        0.0,
        within=Range(low=0),
    )
    deadline_mads: float = setting(
        "instead of a fixed deadline: the median of the seconds that sites took so far, and so many times "
        "their median absolute deviation (from the second round on); 0: none",
        0.0,
        within=Range(low=0),
    )
    late: Literal["drop", "keep"] = setting(
        "an update that comes after its round: drop it; keep its change for the next round, in which the "
        "site is not asked again",
        "drop",
    )
    late_discount: float = setting(
        "what a kept update's size counts for each round that it is late",
        0.5,
        within=Range(low=0, high=1, open_low=True),
    )
    attempts: int = setting(
        "times that a site is asked in a round while its program fails or its connection is lost",
        3,
        within=Range(low=1, high=100),
    )
    max_change_norm: float = setting(
        "largest Frobenius norm of an update's change (of B A, over all layers) that is let in; 0: any. The "
        "default keeps out what is absurd: all weights of a model of 70 billion parameters together have a "
        "norm of about 5000",
        MOST_CHANGE,
        within=Range(low=0),
    )
    max_norm_ratio: float = setting(
        "the same, in times the median of the updates that were let in before (from the second round on); "
        "0: any",
        0.0,
        within=Range(low=0),
    )

    def __post_init__(self) -> None:
        if self.deadline_s and self.deadline_mads:
            raise ValueError("deadline_s and deadline_mads: one of the two; set the other one to 0")

    def num_needed(self, num_asked: int) -> int:
        """Updates without which a round of ``num_asked`` sites is none."""
        return max(1, math.ceil(self.quorum * num_asked - 1e-9))

    def deadline(self, seconds: Sequence[float]) -> float | None:
        """Seconds that a round waits for whoever is not there, or None: as long as it takes.

        ``seconds``: what sites took to answer so far.
        """
        if self.deadline_s:
            return self.deadline_s
        if not self.deadline_mads or not seconds:
            return None
        middle = statistics.median(seconds)
        return middle + self.deadline_mads * statistics.median([abs(one - middle) for one in seconds])
