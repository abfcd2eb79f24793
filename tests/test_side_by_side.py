"""Several runs at a time: the same numbers, common work done once, and nobody left behind."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from interruptible import PROGRAM
from rich.console import Console
from tiny_study import short_note, without_time, write

from fedmedlora.cli import main
from fedmedlora.one_run import Order
from fedmedlora.progress_jobs import Jobs
from fedmedlora.side_by_side import SideBySide, next_run, run_side_by_side
from fedmedlora.study import load_study
from fedmedlora.study_runs import runs_of

METHODS = ["zero_shot", "fed_medlora", "fed_medlora_plus"]
# All that this arm trains, validates and reads is in "main" too: it has been done, or is being done.
AGAIN = f'\n[[arms]]\nname = "again"\nchange.methods = {json.dumps(METHODS[::-1])}\n'
VALIDATION = '[validation]\nnotes = ["validation.jsonl"]\nmax_sentences = 4\n'
# What is done once, however many runs want it: as the lines of stderr name it.
PIECE = re.compile(r"(round \d/\d: \S+ trains|validation losses of the sites' adapters|: reads \S+): done")
LABELS = ["main, seed 3", "main, seed 4", "again, seed 3", "again, seed 4"]


@pytest.fixture(scope="module")
def study_file(tiny_study, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("several") / "study"
    shutil.copytree(tiny_study, folder)
    text = (folder / "study.toml").read_text()
    text = text.replace('"zero_shot", "fed_medlora"', json.dumps(METHODS)[1:-1])
    text = text.replace("[evaluation]", VALIDATION + "[evaluation]\nevery_round = false")
    (folder / "study.toml").write_text("seeds = [3, 4]\n" + text + AGAIN)
    write(folder / "validation.jsonl", [short_note("lakeside", 0, "validation", 4)])
    return folder / "study.toml"


@pytest.fixture(scope="module", autouse=True)
def one_thread_each():
    """Sums in another order would differ in their last digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def one_by_one(study_file, tmp_path_factory):
    """(results, what stderr said) of the runs one after the other."""
    out = tmp_path_factory.mktemp("one-after-the-other") / "out"
    command = [sys.executable, "-m", "fedmedlora", "run", str(study_file), "--out", str(out)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
    return results_in(out), done.stderr


@pytest.fixture
def expected(one_by_one):
    return one_by_one[0]


def results_in(out: Path):
    return without_time(json.loads((out / "study-results.json").read_text()))


def test_four_at_a_time_give_what_one_after_the_other_gives(
    study_file, one_by_one, expected, tmp_path, capfd
):
    out = tmp_path / "out"
    assert main(["run", str(study_file), "--out", str(out), "--jobs", "4"]) == 0
    assert results_in(out) == expected
    assert (out / "report.html").exists()
    assert not (out / "shared").exists()
    lines = capfd.readouterr().err.splitlines()
    pieces = Counter(found[1] for line in lines if (found := PIECE.search(line)))
    assert pieces == Counter(PIECE.findall(one_by_one[1]))  # none twice, whichever run was first
    assert {name.split()[-1] for name in pieces} == {"trains", "adapters", "lakeside", "northgate"}
    assert len([line for line in lines if "finished, " in line]) == 4
    assert any(line.endswith("finished, 4 of 4 runs") for line in lines)


def children_of(pid: int) -> set[int]:
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_runs_end_with_the_one_who_asked_and_are_gone_on_with(study_file, expected, tmp_path, how):
    out = tmp_path / "out"
    command = [sys.executable, "-c", PROGRAM, "run", str(study_file), "--out", str(out), "--jobs", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    told = next(line for line in process.stderr if " trains: done" in line)
    assert told.startswith("main, seed ")
    children = children_of(process.pid)
    assert len(children) == 2
    process.send_signal(how)
    with process.stderr as stream:
        rest = stream.read()  # its end is held by the children too: it ends when they have
    assert process.wait(30) == (-how if how == signal.SIGKILL else 130)
    assert how == signal.SIGKILL or "go on with --resume" in rest
    assert "Traceback" not in rest
    deadline = time.monotonic() + 20
    while any(map(is_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, children))
    assert not (out / "study-results.json").exists()
    assert main(["run", str(study_file), "--out", str(out), "--jobs", "2", "--resume"]) == 0
    assert results_in(out) == expected


def test_what_is_wrong_with_one_run_is_said_and_stops_the_others(study_file, tmp_path, capfd):
    out = tmp_path / "out"
    assert main(["run", str(study_file), "--out", str(out), "--arms", "main", "--jobs", "2"]) == 0
    shutil.rmtree(out / "runs/main/seed-4")
    (out / "runs/main/seed-4").mkdir()
    (out / "runs/main/seed-4/mine.txt").write_text("somebody's")
    again = ["run", str(study_file), "--out", str(out), "--jobs", "2", "--resume"]
    assert main(again) == 2
    told = capfd.readouterr().err
    assert "run main, seed 4: " in told
    assert "holds something that is not a run" in told
    assert (out / "runs/main/seed-4/mine.txt").exists()


def test_a_run_whose_process_dies_is_told_of(study_file, tmp_path, monkeypatch):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 5\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    runs = runs_of(load_study(study_file))
    with pytest.raises(ChildProcessError, match=r"main, seed \d ended with exit code 5; go on with --resume"):
        run_side_by_side(
            SideBySide(study_file, 2, Jobs(Console(file=io.StringIO()))), tmp_path / "out", runs,
            shared=tmp_path / "shared", command=(), num_finished=0, after_run=lambda run: None,
        )  # fmt: skip


def test_what_else_comes_from_a_run_is_no_record_and_its_end_is_heard(study_file, tmp_path, monkeypatch):
    """Half a record, as of a run that the system killed for its memory."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nprintf '{\"used\": 1'\nkill -KILL $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(ChildProcessError, match=r"was ended by signal 9 \(SIGKILL: .* take fewer --jobs\)"):
        run_side_by_side(
            SideBySide(study_file, 2, Jobs(Console(file=io.StringIO()))), tmp_path / "out",
            runs_of(load_study(study_file))[:1], shared=tmp_path / "shared", command=(), num_finished=0,
            after_run=lambda run: None,
        )  # fmt: skip


NOISY = """
import os, sys
from fedmedlora import experiment, one_run
def noisy(*args, **kwargs):
    os.write(1, b"from C\\n")
    print("from Python")
    raise ValueError("what is wrong")
experiment.run_study = noisy
sys.exit(one_run.main())
"""


def test_what_libraries_print_is_no_record(study_file, tmp_path):
    run = runs_of(load_study(study_file))[0]
    order = Order(
        str(study_file), str(tmp_path / "out"), run.folder, run.study.study_hash(), str(tmp_path / "s"), ()
    )
    process = subprocess.Popen(
        [sys.executable, "-c", NOISY], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdin is not None
        process.stdin.write(order.to_line())
        process.stdin.flush()
        assert process.stdout is not None
        assert process.stderr is not None
        assert [json.loads(line) for line in process.stdout] == [{"error": "what is wrong"}]
        assert process.stderr.read().splitlines() == ["from C", "from Python"]
    assert process.returncode == 2


def test_a_study_that_changes_meanwhile_is_refused(study_file, tmp_path):
    copy = tmp_path / "study"
    shutil.copytree(study_file.parent, copy)
    runs = runs_of(load_study(copy / "study.toml"))
    text = (copy / "study.toml").read_text()
    (copy / "study.toml").write_text(text.replace("learning_rate = 1e-2", "learning_rate = 2e-2"))
    with pytest.raises(ValueError, match="changed while it was run"):
        run_side_by_side(
            SideBySide(copy / "study.toml", 1, Jobs(Console(file=io.StringIO()))), tmp_path / "out", runs[:1],
            shared=tmp_path / "shared", command=(), num_finished=0, after_run=lambda run: None,
        )  # fmt: skip


def test_other_seeds_first(study_file):
    runs = {run.label: run for run in runs_of(load_study(study_file))}
    assert list(runs) == LABELS
    waiting = [runs[label] for label in ("again, seed 3", "again, seed 4")]
    assert next_run(waiting, [runs["main, seed 3"]]).label == "again, seed 4"
    assert next_run(waiting, [runs["main, seed 4"]]).label == "again, seed 3"
    assert next_run(waiting, [runs["main, seed 3"], runs["main, seed 4"]]).label == "again, seed 3"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--jobs", "0"], "--jobs 0: at least 1"),
        (["--jobs", "2", "--carrier", "flower-simulation"], "--jobs: goes with --carrier in-process"),
        (["--jobs", "2"], "is one run; several seeds or [[arms]] make several"),
        (["--arms", ""], "--arms: names no arm; leave it out to run them all"),
        (["--arms", " ,"], "--arms: names no arm"),
    ],
)
def test_where_there_is_nothing_to_share_out(tiny_study, tmp_path, capsys, more, says):
    assert main(["run", str(tiny_study / "study.toml"), "--out", str(tmp_path / "out"), *more]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_lines_and_bars(monkeypatch):
    """Shares are of each run's own plan; a terminal gets a bar for each and one for all."""
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("fedmedlora.progress_jobs.time", clock)  # rich has a clock of its own
    for is_terminal in (False, True):
        stream = io.StringIO()
        with Jobs(Console(file=stream, force_terminal=is_terminal, width=150)) as jobs:
            jobs.begin(1, 3)
            for label in ("main, seed 3", "main, seed 4"):
                jobs.start(label)
                jobs.tell(label, {"planned": 10.0})
            now[0] += 600.0
            jobs.tell("main, seed 3", {"used": 4.0, "stage": "reading", "note": "3 of 5"})
            jobs.tell("main, seed 3", {"used": 5.0, "stage": "reading", "done": True})
            jobs.tell("main, seed 4", {"used": 2.0, "stage": "training", "done": True})
            jobs.finish("main, seed 3")
        told = stream.getvalue()
        if is_terminal:
            assert "all runs" in told
            assert "73%" in told  # of three runs one before, one now, and a fifth of another
        else:
            assert told.splitlines() == [
                "main, seed 3: starts",
                "main, seed 4: starts",
                # half a run in 10 minutes, one and a half to come; then 0.7 and 1.3; then 1.2 and 0.8
                "main, seed 3: reading: done (50 %) (all runs: 50 % after 10 min, about 30 min left)",
                "main, seed 4: training: done (20 %) (all runs: 57 % after 10 min, about 19 min left)",
                "main, seed 3: finished, 2 of 3 runs (all runs: 73 % after 10 min, about 7 min left)",
            ]


def test_no_time_left_is_told_before_anything_is_done_and_after_everything_is():
    stream = io.StringIO()
    with Jobs(Console(file=stream, force_terminal=False, width=150)) as jobs:
        jobs.begin(1, 2)
        jobs.start("main, seed 4")
        jobs.tell("main, seed 4", {"planned": 0.0})
        jobs.tell("main, seed 4", {"used": 0.0, "stage": "loading", "done": True})
        jobs.finish("main, seed 4")
    assert "left" not in stream.getvalue()
