"""What `fedmedlora run --carrier flower` does: submit a study to a SuperLink, and follow it to its end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from fedmedlora.flower.state import (
    STATE,
    Submission,
    read_outcome,
    read_run,
    state_folder,
    submission_name,
    write_run,
    write_submission,
)
from fedmedlora.run_folder import is_worked_on
from fedmedlora.study import load_study

# Nothing phones home.
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
POLL_S = 0.5
# How often SuperLink is asked whether the run still lives. That starts a Flower program, which takes seconds
# of a core from the work itself, so: soon, then after twice as long each time, as a run needs a while to get
# to work; seldom while the ServerApp is seen to be at work; and soon again when it no longer is.
ASK_S = 10.0
SELDOM_ASK_S = 40.0
ENDED_GRACE_S = 5.0


class Interrupted(ValueError):  # noqa: N818 - a state, not a mistake
    """The run ended before its study did, and the study may get further in another run."""


@dataclass(frozen=True)
class Target:
    """A SuperLink: its name in Flower's configuration, and the environment to speak to it in."""

    superlink: str
    environment: Mapping[str, str]
    federation_config: str = ""


def run_over_flower(
    study_file: Path,
    out: Path,
    *,
    superlink: str,
    resume: bool,
    wait_s: float,
    command: tuple[str, ...],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Run the study on the sites that are connected to ``superlink``; returns its results.

    ``superlink``: a connection in Flower's own configuration file. The SuperLink runs on this machine,
    with the same ``FEDMEDLORA_STATE``. ``tell`` is given lines of progress. Raises ``ValueError`` for
    whatever is wrong with study, sites or SuperLink.
    """
    environment = {**os.environ, **QUIET, STATE: str(state_folder())}
    if any(site.train or site.test for site in load_study(study_file, sites_are_here=False).sites):
        tell("train and test of the study's sites are not used: each site's own site.toml names its notes")
    return run_at(study_file, out, Target(superlink, environment), resume, wait_s, command, tell)


def run_at(
    study_file: Path,
    out: Path,
    target: Target,
    resume: bool,
    wait_s: float,
    command: tuple[str, ...],
    tell: Callable[[str], None],
    stopping: threading.Event | None = None,
) -> dict[str, Any]:
    """``run_over_flower`` at ``target``. ``stopping``: ends it with ``Interrupted`` when it is set."""
    study = load_study(study_file, sites_are_here=False)
    name = submission_name(study, out)
    state = Path(target.environment[STATE])
    folder = state / name
    run_id = read_run(folder)
    if resume and run_id and _lives(run_id, target):
        tell(f"run {run_id} at SuperLink {target.superlink} is still at work; following it")
    else:
        write_submission(state, Submission(name, study_file, out, resume, wait_s, command))
        run_id = _start(name, target)
        try:
            write_run(folder, run_id)
        except OSError:  # the next call could not follow it, and would begin another beside it
            _stop(run_id, target, tell)
            raise
        tell(f"run {run_id} at SuperLink {target.superlink}: {len(study.sites)} sites")
    outcome = _follow(folder, out, run_id, target, tell, stopping or threading.Event())
    if outcome["error"]:
        raise (Interrupted if outcome["may_go_on"] else ValueError)(outcome["error"])
    results: dict[str, Any] = outcome["results"]
    return results


def app_folder() -> Path:
    """The folder of the Flower app inside the installed package: one file, no code."""
    return Path(str(files("fedmedlora.flower") / "app"))


def _start(name: str, target: Target) -> str:
    command = ["run", str(app_folder()), target.superlink, "--run-config", f'study="{name}"']
    if target.federation_config:
        command += ["--federation-config", target.federation_config]
    found = _flwr(command, target)
    run_id = found.get("run-id")
    if not run_id:
        raise Interrupted(f"SuperLink {target.superlink!r} did not start the run: {_said(found)}")
    return str(run_id)


def _follow(
    folder: Path,
    out: Path,
    run_id: str,
    target: Target,
    tell: Callable[[str], None],
    stopping: threading.Event,
) -> dict[str, Any]:
    """Pass on the lines of progress until the run in ``out`` has an outcome in ``folder``."""
    told, asked, interval = 0, time.monotonic(), ASK_S
    log = folder / "progress.log"
    try:
        while True:
            outcome = read_outcome(folder)
            if log.exists():
                lines = log.read_text(encoding="utf-8").splitlines()
                for line in lines[told:]:
                    tell(line)
                told = len(lines)
            if outcome is not None:
                return outcome
            silence = time.monotonic() - asked
            at_work = silence > ASK_S and is_worked_on(out)  # looked at where an asking may be due
            if at_work:
                interval = ASK_S
            if silence > (SELDOM_ASK_S if at_work else interval):
                asked = time.monotonic()
                if not at_work:
                    interval = min(2 * interval, SELDOM_ASK_S)
                status = _status(run_id, target)
                if status.startswith("finished"):
                    time.sleep(ENDED_GRACE_S)  # its outcome may be on the way to the disk
                    if (outcome := read_outcome(folder)) is not None:
                        return outcome
                    raise Interrupted(
                        f"the run ended ({status}) and left no outcome; is {STATE} the same in SuperLink's "
                        "environment as here? `flwr log` and SuperLink's own log say more"
                    )
            if stopping.wait(POLL_S):
                _stop(run_id, target, tell)
                raise Interrupted("it was told to stop")
    except KeyboardInterrupt:
        _stop(run_id, target, tell)
        raise


def _stop(run_id: str, target: Target, tell: Callable[[str], None]) -> None:
    tell(f"stopping run {run_id}; go on with --resume")
    with contextlib.suppress(ValueError):
        _flwr(["stop", run_id, target.superlink], target)


def _lives(run_id: str, target: Target) -> bool:
    try:
        return not _status(run_id, target).startswith("finished")
    except ValueError:  # a SuperLink that was started anew without its database knows no old run
        return False


def _status(run_id: str, target: Target) -> str:
    """Of the run, by SuperLink, which is asked again before it is taken for dead."""
    for wait_s in (1.0, 3.0, 0.0):
        try:
            found = _flwr(["list", target.superlink, "--run-id", run_id], target)
            break
        except Interrupted:
            if not wait_s:
                raise
            time.sleep(wait_s)
    runs = found.get("runs") or [{}]
    return str(runs[0].get("status", ""))


def _flwr(command: list[str], target: Target) -> dict[str, Any]:
    """What ``flwr COMMAND --format json`` says."""
    done = subprocess.run(
        [program("flwr"), *command, "--format", "json"],
        env=dict(target.environment),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    start = done.stdout.find("{")
    try:
        found: dict[str, Any] = json.loads(done.stdout[start:]) if start >= 0 else {}
    except ValueError:
        found = {}
    if done.returncode or found.get("success") is False:
        said = _said(found) or (done.stderr or done.stdout).strip()[-500:]
        raise Interrupted(
            f"SuperLink {target.superlink!r}: {said}\nIs it running, and named under [superlink.NAME] in "
            "Flower's configuration (`flwr config list`)?"
        )
    return found


def _said(found: Mapping[str, Any]) -> str:
    return str(found.get("error-message") or "")


def own_path(environ: Mapping[str, str]) -> str:
    """A PATH on which Flower's programs are found: those beside this Python first."""
    return f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', '')}"


def program(name: str) -> str:
    """Flower's program beside this Python: not another one that the PATH may hold."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ValueError(f"{name}: not installed here; pip install 'fedmedlora[flower]'")
    return found
