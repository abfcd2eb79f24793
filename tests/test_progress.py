"""Progress without a terminal: a log file is told how far the run is."""

import io
import re

from rich.console import Console

from fedmedlora.progress import Terminal


def test_a_log_is_told_how_far_the_run_is():
    out = io.StringIO()
    with Terminal(Console(file=out, width=40)) as progress:
        progress.plan(4.0)
        with progress.stage("a stage with a name that is longer than the line", 1.0) as advance:
            advance(1, 2, "loss 0.5")
        with progress.stage("second", 3.0):
            pass
    first, second = out.getvalue().splitlines()
    assert re.fullmatch(r"a stage .* line: done \(25 % after \d+ s, about \d+ s left\)", first)
    assert re.fullmatch(r"second: done \(100 % after \d+ s, about 0 s left\)", second)


def test_work_that_is_not_planned_is_not_promised():
    out = io.StringIO()
    with Terminal(Console(file=out, width=80)) as progress:
        with progress.stage("before the plan", 1.0):
            pass
        progress.plan(0.0)
        with progress.stage("more than planned", 9.0):
            pass
    assert out.getvalue().splitlines() == ["before the plan: done", "more than planned: done"]
