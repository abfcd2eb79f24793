"""``fedmedlora run``, ``demo`` and ``report``: a study from its file to its report."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedmedlora.cli_help import add_command

# Heavy modules are imported where a command needs them, so that --help answers at once.

STUDY_RESULTS = "study-results.json"  # of a study of many runs


@dataclass(frozen=True, slots=True)
class _Order:
    """What was asked for beside the study: ``command``, as the results tell it, and the options."""

    out: Path
    command: tuple[str, ...]
    resume: bool = False
    as_json: bool = False
    arms: tuple[str, ...] = ()
    trackers: tuple[str, ...] = ()
    num_jobs: int = 1


def add_run(commands: Any) -> None:
    """Add ``demo``, ``run`` and ``report`` to the subparsers ``commands``."""
    demo = commands.add_parser("demo", help="a federated study on five synthetic hospitals, start to report")
    demo.add_argument("--out", type=Path, default=Path("demo-run"), help="output folder (demo-run)")
    demo.add_argument("--resume", action="store_true", help="go on with a demo that was stopped")
    demo.set_defaults(run=_demo)

    run = commands.add_parser("run", help="run a study file")
    run.add_argument("study", type=Path, help="TOML; docs/study-file.md lists every key")
    run.add_argument("--out", type=Path, required=True, help="output folder, new or empty")
    run.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    run.add_argument("--json", action="store_true", help="print the results as one line of JSON")
    run.add_argument(
        "--arms",
        metavar="A,B",
        help="of a study with [[arms]]: run main and these alone",
    )
    run.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="of a study with [[arms]] or seeds: so many runs at a time, each on its share of the cores (1)",
    )
    run.add_argument(
        "--track", metavar="A,B", default="", help="tell the numbers to trackers too: tensorboard, mlflow"
    )
    run.add_argument(
        "--carrier",
        choices=("in-process", "flower-simulation", "flower"),
        default="in-process",
        help="where the sites are: in this process; in Flower's simulation (Ray); behind a Flower SuperLink",
    )
    run.add_argument(
        "--superlink", metavar="NAME", help="with --carrier flower: a connection of Flower's configuration"
    )
    run.add_argument(
        "--wait", type=float, default=10.0, metavar="MINUTES", help="for sites to connect, over Flower (10)"
    )
    run.set_defaults(run=_run)

    plan = commands.add_parser(
        "plan", help="what a study will take: parameters, traffic, memory, time; nothing is run"
    )
    plan.add_argument("study", type=Path, help="TOML; its notes are read, its model's weights are not")
    plan.add_argument(
        "--device",
        action="append",
        metavar="NAME",
        help="such as rtx-4090 or cpu; may be repeated; all if left out",
    )
    plan.add_argument("--json", action="store_true", help="print one line of JSON")
    plan.set_defaults(run=_plan)

    report = add_command(
        commands,
        "report",
        help="write report.html from results.json, or of many runs study-results.json",
        takes="the folder that a run wrote to, with results.json, or of many runs study-results.json (which "
        "is made of the runs in it where it is missing); no notes and no model",
        gives="report.html in that folder; of many runs also figures/ and tables/",
        example="fedmedlora report demo-run/run",
    )
    report.add_argument("folder", type=Path, metavar="DIR", help="the folder that --out named")
    report.add_argument(
        "--study",
        type=Path,
        metavar="FILE",
        help="the study file of many runs, which has the titles and groups of arms; with it "
        "study-results.json is made of the runs again, also where there is one",
    )
    report.set_defaults(run=_report)


def _demo(args: argparse.Namespace) -> None:
    from fedmedlora.demo import write_demo

    study = args.out / "study.toml"
    if not study.exists() and args.out.is_dir() and {p.name for p in args.out.iterdir()} <= {"notes"}:
        study = write_demo(args.out)  # stopped while its notes were written: they are written again, the same
    elif not args.resume or not study.exists():
        _refuse_filled(args.out)
        study = write_demo(args.out)
    command = ("fedmedlora", "demo", "--out", args.out.name)
    _run_file(study, _Order(args.out / "run", command, resume=args.resume))


def _run(args: argparse.Namespace) -> None:
    command = ("fedmedlora", "run", args.study.name, "--out", args.out.name)
    if args.carrier == "in-process":
        if args.superlink:
            raise ValueError("--superlink: goes with --carrier flower")
        if args.jobs < 1:
            raise ValueError(f"--jobs {args.jobs}: at least 1")
        arms = _names(args.arms or "")
        if args.arms is not None and not arms:
            raise ValueError("--arms: names no arm; leave it out to run them all")
        order = _Order(args.out, command, args.resume, args.json, arms, _names(args.track), args.jobs)
        _run_file(args.study, order)
        return
    if args.jobs != 1:
        raise ValueError("--jobs: goes with --carrier in-process")
    if args.track:
        raise ValueError("--track: goes with --carrier in-process")
    if args.arms:
        raise ValueError("--arms: several runs go with --carrier in-process")
    results = _run_elsewhere(args, (*command, "--carrier", args.carrier))
    finish(None, results, args.out, args.json)


def _run_elsewhere(args: argparse.Namespace, command: tuple[str, ...]) -> dict[str, Any]:
    from fedmedlora.flower.simulation import run_simulation
    from fedmedlora.flower.submit import run_over_flower

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if args.carrier == "flower-simulation":
        if args.superlink:
            raise ValueError("--superlink: --carrier flower-simulation starts a SuperLink of its own")
        return run_simulation(args.study, args.out, resume=args.resume, command=command, tell=tell)
    if not args.superlink:
        raise ValueError(
            "--carrier flower: name the SuperLink with --superlink NAME (a [superlink.NAME] of Flower's "
            "configuration; docs/flower.md)"
        )
    return run_over_flower(
        args.study,
        args.out,
        superlink=args.superlink,
        resume=args.resume,
        wait_s=args.wait * 60,
        command=command,
        tell=tell,
    )


def _plan(args: argparse.Namespace) -> None:
    from rich.console import Console

    from fedmedlora.plan.devices import find_device, known_devices
    from fedmedlora.plan.plan import plan_study
    from fedmedlora.plan.table import show_plan
    from fedmedlora.study import load_study

    study = load_study(args.study)
    devices = [find_device(name, study.model.precision) for name in args.device or known_devices()]
    print("making the notes into examples, and a step on shapes ...", file=sys.stderr, flush=True)
    found = plan_study(study, devices)
    if args.json:
        print(json.dumps(found.to_dict()))
    else:
        show_plan(found, Console())


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _run_file(study_file: Path, order: _Order) -> None:
    from fedmedlora.model.memory import keep_freed_memory
    from fedmedlora.study import load_study
    from fedmedlora.study_runs import has_many_runs, runs_of
    from fedmedlora.tracking.tracker import refuse_unknown, track

    refuse_unknown(order.trackers)
    study = load_study(study_file)
    if has_many_runs(study):
        runs_of(study, order.arms)  # what is wrong with an arm is said before anything is loaded
        _run_many(study, study_file, order)
        return
    if order.arms:
        raise ValueError(f"--arms: {study_file} has no [[arms]]")
    if order.num_jobs > 1:
        raise ValueError(f"--jobs: {study_file} is one run; several seeds or [[arms]] make several")
    if order.resume and not (order.out / "run.json").exists():
        print(f"{order.out}: holds no run to go on with; starting one", file=sys.stderr)
    print("loading the model and the notes ...", file=sys.stderr, flush=True)
    from fedmedlora.experiment import run_study
    from fedmedlora.progress import Terminal

    keep_freed_memory()
    with Terminal() as progress:
        results = run_study(study, order.out, resume=order.resume, progress=progress, command=order.command)
    track(order.trackers, results, run=f"seed {study.seed}", folder=order.out)
    finish(study, results, order.out, order.as_json)


def _run_many(study: Any, study_file: Path, order: _Order) -> None:
    from contextlib import nullcontext

    from fedmedlora.many_runs import run_many
    from fedmedlora.model.memory import keep_freed_memory
    from fedmedlora.progress import Terminal
    from fedmedlora.progress_jobs import Jobs
    from fedmedlora.side_by_side import SideBySide
    from fedmedlora.tracking.tracker import track

    if order.arms:
        order = replace(order, command=(*order.command, "--arms", ",".join(order.arms)))
    if order.num_jobs > 1:  # beside it, times are of runs that shared the machine
        order = replace(order, command=(*order.command, "--jobs", str(order.num_jobs)))
    keep_freed_memory()
    jobs = Jobs() if order.num_jobs > 1 else None
    with Terminal() if jobs is None else nullcontext() as progress, jobs or nullcontext():
        results = run_many(
            study,
            order.out,
            resume=order.resume,
            progress=progress,
            side_by_side=None if jobs is None else SideBySide(study_file, order.num_jobs, jobs),
            command=order.command,
            only=order.arms,
            after_run=lambda label, found: track(order.trackers, found, run=label, folder=order.out),
        )
    _finish_many(results, order.out, order.as_json)


def _finish_many(results: dict[str, Any], out: Path, as_json: bool) -> None:
    """The study's results, its report, figures and tables to ``out``, and the main table to the terminal."""
    from rich.console import Console

    from fedmedlora.report.results import kept, write_study_results
    from fedmedlora.report.study_files import write_figures_and_tables
    from fedmedlora.report.study_page import write_study_report
    from fedmedlora.report.study_tables_text import study_table_text

    results = kept(out / STUDY_RESULTS, results)
    write_study_results(out / STUDY_RESULTS, results)
    page = write_study_report(results, out)
    files = write_figures_and_tables(results, out)
    if as_json:
        print(json.dumps(results, ensure_ascii=False))
    else:
        console = Console()
        for table in study_table_text(results):
            console.print(table)
    print(f"report: {page}\nresults: {out / STUDY_RESULTS}", file=sys.stderr)
    print(f"figures and tables: {len(files)} files in {out / 'figures'}, {out / 'tables'}", file=sys.stderr)


def finish(study: Any, results: dict[str, Any], out: Path, as_json: bool) -> None:
    """Results and report to ``out``, and what is worth reading to the terminal."""
    from rich.console import Console

    from fedmedlora.report.results import kept, write_results
    from fedmedlora.report.tables import table_text

    results = kept(out / "results.json", results)
    write_results(out / "results.json", results)
    page = _write_report(study, results, out)
    if as_json:
        print(json.dumps(results, ensure_ascii=False))
    else:
        console = Console()
        for table in table_text(results):
            console.print(table)
    print(f"report: {page}\nresults: {out / 'results.json'}\nadapters: {out / 'adapters'}", file=sys.stderr)


def _write_report(study: Any, results: dict[str, Any], folder: Path) -> Path:
    from fedmedlora.report.page import write_report
    from fedmedlora.report_examples import report_examples
    from fedmedlora.run_folder import read_json, write_json

    kept = folder / "examples.json"  # of synthetic cohorts only; what `report` shows again
    if study is not None:
        found = report_examples(study, results, folder)
        if found:
            write_json(kept, found)
    return write_report(results, folder, read_json(kept) or [])


def _report(args: argparse.Namespace) -> None:
    from fedmedlora.report.results import read_results

    folder = args.folder.parent if args.folder.name in ("results.json", STUDY_RESULTS) else args.folder
    holds_runs = (folder / "study-runs.json").exists()
    if args.study is not None and not holds_runs:
        raise ValueError(f"--study: {folder} holds no runs of a study of many; leave it out")
    if args.study is not None or (holds_runs and not (folder / STUDY_RESULTS).exists()):
        from fedmedlora.progress import Terminal
        from fedmedlora.rebuild import rebuilt

        print(f"{folder}: making {STUDY_RESULTS} of the runs in it ...", file=sys.stderr, flush=True)
        with Terminal() as progress:
            results = rebuilt(folder, args.study, progress)
        _finish_many(results, folder, as_json=False)
        return
    if (folder / STUDY_RESULTS).exists():
        from fedmedlora.report.results import read_study_results
        from fedmedlora.report.study_files import write_figures_and_tables
        from fedmedlora.report.study_page import write_study_report

        results = read_study_results(folder / STUDY_RESULTS)
        print(write_study_report(results, folder))
        write_figures_and_tables(results, folder)
        return
    if not (folder / "results.json").exists():
        _refuse_without_results(folder)
    page = _write_report(None, read_results(folder / "results.json"), folder)
    print(page)


def _refuse_without_results(folder: Path) -> None:
    """Say where the results are, or how to come by them."""
    if (folder / "run.json").exists():
        raise ValueError(f"{folder}: the run in it is not finished; go on with run --resume")
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; give the one that run wrote to (--out)")
    names = ("results.json", STUDY_RESULTS)
    inner = [path for path in sorted(folder.iterdir()) if any((path / name).exists() for name in names)]
    hint = f"did you mean {inner[0]}?" if inner else "give the folder that run wrote to (--out)"
    raise ValueError(f"{folder}: holds no {' and no '.join(names)}; {hint}")


def _refuse_filled(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: is not empty; go on with it (--resume) or name another with --out")
