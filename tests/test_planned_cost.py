"""What a run is said to cost before it begins, beside what its stages cost."""

from __future__ import annotations

import pytest
from tiny_study import NEW_SITE, make_study

from fedmedlora.experiment import run_study
from fedmedlora.progress import Silent

FEW = """\
[adaptation]
num_notes = [0, 1, 2]
passes = 1
least_steps = 1
"""


class Adding(Silent):
    """``planned``, and the cost of the stages that came."""

    def __init__(self):
        self.planned = self.done = 0.0

    def plan(self, cost):
        self.planned = cost

    def stage(self, label, cost):
        self.done += cost
        return super().stage(label, cost)


@pytest.mark.parametrize("every_round", [True, False])
def test_adaptations_are_planned_as_the_one_round_that_they_are(material, tmp_path, every_round):
    study = make_study(
        material, tmp_path, methods=["fed_medlora"], rounds=4, more=FEW, after=NEW_SITE, cohorts=(),
        every_round=every_round,
    )  # fmt: skip
    progress = Adding()
    run_study(study, tmp_path / "out", progress=progress)
    assert progress.planned == pytest.approx(progress.done, rel=0.05)
