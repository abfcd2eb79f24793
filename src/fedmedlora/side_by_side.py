"""Several runs of a study at the same time, each in a process of its own.

Where one run does not fill the machine (a small model on a CPU with many cores, or on a large GPU), several
do. What runs have in common is still done once: a run that wants a piece that another is at work on waits
for it (``run_folder.claimed``). Runs of different seeds have little in common, so those go first.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fedmedlora.as_program import as_program
from fedmedlora.one_run import Order
from fedmedlora.progress_jobs import Jobs
from fedmedlora.study_runs import PlannedRun
from fedmedlora.training.processes import end_in_words, threads_of_each

# Libraries that count the cores when they start, and would all take all of them.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
_GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class _Going:
    run: PlannedRun
    process: subprocess.Popen[str]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """``num_jobs`` runs at a time of the study in ``study_file``; ``shown`` tells how far they are."""

    study_file: Path
    num_jobs: int
    shown: Jobs


def run_side_by_side(
    how: SideBySide,
    folder: Path,
    runs: Sequence[PlannedRun],
    *,
    shared: Path,
    command: Sequence[str],
    num_finished: int,
    after_run: Callable[[PlannedRun], None],
) -> None:
    """Run ``runs`` into ``folder``.

    ``after_run`` is called with each that has finished, in this thread. ``num_finished``: runs that were
    finished before. Raises ``ValueError`` for what is wrong with a run, and ``ChildProcessError`` for one
    that ended otherwise; the others are stopped then, to be gone on with.
    """
    num_jobs = min(how.num_jobs, len(runs))
    waiting, going = list(runs), dict[str, _Going]()
    heard: queue.Queue[tuple[str, dict[str, Any] | None]] = queue.Queue()
    wrong: dict[str, str] = {}
    jobs = how.shown
    jobs.begin(num_finished, num_finished + len(runs))
    try:
        while waiting or going:
            while waiting and len(going) < num_jobs:
                run = next_run(waiting, [one.run for one in going.values()])
                waiting.remove(run)
                order = Order(
                    str(how.study_file), str(folder), run.folder, run.study.study_hash(), str(shared),
                    tuple(command),
                )  # fmt: skip
                going[run.label] = _Going(run, _start(order, run.label, num_jobs, heard))
                jobs.start(run.label)
            label, record = heard.get()
            if record is not None:
                wrong |= {label: record["error"]} if "error" in record else {}
                jobs.tell(label, record)
                continue
            done = going.pop(label)
            code = _ended(done.process)
            if label in wrong:
                raise ValueError(f"run {label}: {wrong[label]}")
            if code:
                end = end_in_words(code, remedy="; take fewer --jobs")
                raise ChildProcessError(f"run {label} {end}; go on with --resume")
            jobs.finish(label)
            after_run(done.run)
    finally:
        _stop([one.process for one in going.values()])


def next_run(waiting: Sequence[PlannedRun], going: Sequence[PlannedRun]) -> PlannedRun:
    """Of ``waiting`` the first whose seed no run of ``going`` has, or else the first."""
    seeds = {run.seed for run in going}
    return next((run for run in waiting if run.seed not in seeds), waiting[0])


def _start(
    order: Order, label: str, num_jobs: int, heard: queue.Queue[tuple[str, dict[str, Any] | None]]
) -> subprocess.Popen[str]:
    threads = str(threads_of_each(num_jobs, os.environ))
    process = subprocess.Popen(
        as_program("one_run"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **dict.fromkeys(_THREADS, threads)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(OSError):  # one that could not start is told of by its exit code
        process.stdin.write(order.to_line())
        process.stdin.flush()  # and not closed: the run ends when this end does

    def listen(stream: IO[str]) -> None:
        try:
            with stream:
                for line in stream:
                    heard.put((label, json.loads(line)))
        except ValueError:  # the end of a record is missing: whoever wrote it was killed
            pass
        finally:
            heard.put((label, None))

    threading.Thread(target=listen, args=(process.stdout,), daemon=True).start()
    return process


def _ended(process: subprocess.Popen[str], timeout: float | None = None) -> int:
    code = process.wait(timeout)
    assert process.stdin is not None
    with suppress(OSError):  # what it never read is lost with it
        process.stdin.close()
    return code


def _stop(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            _ended(process, _GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            _ended(process)
