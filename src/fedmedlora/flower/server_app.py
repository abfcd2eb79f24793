"""The ServerApp: the coordinator's side of a run. The loop is that of ``rounds.py``; this only starts it."""

from __future__ import annotations

import logging
import os

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedmedlora.audit.log_file import LOG, RunLog
from fedmedlora.experiment import run_study
from fedmedlora.flower.grid_sites import join
from fedmedlora.flower.live import live_in
from fedmedlora.flower.live_grid import LiveGrid
from fedmedlora.flower.live_sites import LiveProgress, LiveSites
from fedmedlora.flower.logged_grid import LoggedGrid
from fedmedlora.flower.state import read_submission, signer, write_outcome
from fedmedlora.model.memory import keep_freed_memory
from fedmedlora.only_one import InUse
from fedmedlora.progress import Terminal
from fedmedlora.run_folder import DamagedRound
from fedmedlora.sites import NotNow

log = logging.getLogger("fedmedlora")
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the study that the run's configuration names, out of the coordinator's own state folder."""
    found, folder = read_submission(str(context.run_config.get("study", "")))
    os.umask(0o077)  # a run's folder is nobody else's business
    keep_freed_memory()
    try:
        study = found.load_study()
        names = [site.name for site in study.sites]
        remembered = folder / "sites.json"
        if not (found.out / "run.json").exists():  # what sites said for a run that is gone
            remembered.unlink(missing_ok=True)
        told = RunLog(folder / LOG)  # of what happens before the run has its folder
        logged = LoggedGrid(grid, told, names)
        with (
            (folder / "progress.log").open("w", encoding="utf-8", buffering=1) as lines,
            Terminal.lines_to(lines) as shown,
            live_in(folder, study.name, names, study.training.rounds, resume=found.resume) as live,
        ):
            results = run_study(
                study,
                found.out,
                resume=found.resume,
                progress=LiveProgress(shown, live),
                command=found.command,
                elsewhere=lambda terms, _: LiveSites(
                    join(
                        LiveGrid(logged, live),
                        names,
                        terms,
                        shown,
                        wait_s=found.wait_s,
                        rounds=study.rounds,
                        remembered=remembered,
                    ),
                    live,
                ),
                log=told,
                signer=signer(),
            )
    except (NotNow, InUse, DamagedRound) as error:
        write_outcome(folder, results=None, error=str(error), may_go_on=True)
        raise
    except ValueError as error:  # what a user has to do something about
        write_outcome(folder, results=None, error=str(error))
        raise
    except BaseException as error:  # a lost connection, a full disk
        words = f"{type(error).__name__}; SuperLink's log says where"
        write_outcome(folder, results=None, error=words, may_go_on=True)
        raise
    write_outcome(folder, results=results)
    log.info("study %s: finished", found.name)
