"""Speed, memory and traffic, side by side with what a user would pick instead: one table.

    make bench                                  on this CPU, in calls of under ten minutes
    make TORCH=torch bench-gpu                  on an NVIDIA GPU
    python benchmarks/bench.py --rows training  some rows (part of a key, or a pattern); --list shows the keys
    python benchmarks/bench.py --full           whole steps for the slow sides too, more repetitions: hours
    python benchmarks/bench.py --write-docs a.json b.json    the table of docs/performance.md

Each measurement runs in a process of its own, in which both sides take turns. What is finished is kept in
the JSON file, so a call that was stopped goes on where it was; ``--again`` begins anew. A measurement that
would not end within ``--minutes``, at the pace of those before it (in earlier calls, too), is left out, and
the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rows.jobs import Job, all_jobs, chosen
from rows.machine import describe, fast_precision, words
from rows.row import Row, from_json, to_json
from rows.setting import ROOT, Setting, say
from rows.table import PAGE, RECORD, page_part, table, words_of, write_page

from fedmedlora.tasks.form import known_forms

FORMAT, VERSION = "fedmedlora-benchmarks", 1


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    if arguments is None:  # stopped from outside, everything that was started is ended on the way out
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if args.write_docs is not None:
        return write_docs(args.write_docs)
    # A smoke run of the GPU's rows does without one.
    device = "cpu" if args.smoke and not has_gpu() else args.device
    setting = Setting(device, args.smoke, args.full, args.layers, args.repetitions, args.threads)
    args.json = args.json or Path("bench-run") / ("cpu.json" if args.device == "cpu" else "gpu.json")
    work = args.json.parent
    if args.job:
        return one_job(args.job, setting, work, args.json)
    try:
        jobs = chosen(all_jobs(), args.device, args.rows)
    except ValueError as error:
        parser().error(str(error))
    if args.list:
        print("\n".join(job.key for job in jobs))
        return 0
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched from a hub
    machine = describe(args.threads)
    say(f"Measured on {words(machine)}")
    record = fresh_record() if args.again else read_record(args.json)
    deadline = time.monotonic() + 60 * args.minutes if args.minutes else float("inf")
    rows: list[Row] = []
    failed = False
    spent = reckoned = 0.0  # seconds: a slower machine begins less
    trained: set[str] = set()
    for number, job in enumerate(jobs, start=1):
        say(f"[{number}/{len(jobs)}] {job.key}")
        expected = job.seconds_after(trained)
        known = record["jobs"].get(job.name)
        if known and (known["setting"], known["machine"]) == (asdict(setting), machine):
            rows += map(from_json, known["rows"])
            spent, reckoned, trained = spent + known["seconds"], reckoned + expected, trained | job.adapters
            continue
        pace = max(1.0, spent / reckoned) if reckoned else 1.0
        if why := hindrance(job, setting, machine, deadline - time.monotonic(), pace * expected):
            say(f"  not measured: {why}")
            rows.append(replace(job.blank, why=why))
            continue
        found, seconds = measure(job, setting, work)
        if isinstance(found, str):
            failed = True
            say(f"  failed: {found}")
            rows.append(replace(job.blank, why=f"failed: {found}"))
            continue
        spent, reckoned, trained = spent + seconds, reckoned + expected, trained | job.adapters
        rows += found
        record["jobs"][job.name] = {
            "machine": machine,
            "setting": asdict(setting),
            "seconds": round(seconds, 1),
            "rows": [to_json(row) for row in found],
        }
        write_whole(args.json, json.dumps(record, indent=1) + "\n")
    text = f"Measured on {words(machine)}.\n\n{table(rows)}\n"
    write_whole(args.json.with_suffix(".md"), text)
    print(text if args.markdown else plain(rows))
    say(f"Written: {args.json} and {args.json.with_suffix('.md')}")
    return int(failed)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    found.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    found.add_argument("--rows", default="", metavar="PATTERN", help="parts of keys, between commas")
    found.add_argument("--list", action="store_true", help="the keys of the rows, and nothing more")
    found.add_argument("--json", type=Path, help="of what is finished; else cpu.json, gpu.json in bench-run")
    found.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    found.add_argument(
        "--minutes", type=float, default=0, help="begin nothing that would take longer; 0: all"
    )
    found.add_argument("--again", action="store_true", help="measure anew what is in the JSON file")
    found.add_argument("--full", action="store_true", help="no part measured for the whole: hours")
    found.add_argument("--smoke", action="store_true", help="tiny random models: only to see that it runs")
    found.add_argument("--layers", type=int, default=0, help="of the model, the first ones; 0: all")
    found.add_argument("--repetitions", type=int, default=0, help="0: as each row has it")
    found.add_argument("--threads", type=int, default=0, help="of torch; 0: as torch chooses")
    found.add_argument("--write-docs", type=Path, nargs="*", metavar="JSON", help="put these into the page")
    found.add_argument("--job", default="", help=argparse.SUPPRESS)
    return found


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def hindrance(job: Job, setting: Setting, machine: Mapping[str, Any], left: float, needed: float) -> str:
    """Why ``job`` is not begun; "" if it is. ``left``: seconds there are; ``needed``: that it takes.

    A smoke run without TRL compares training with padded rows.
    """
    if setting.device == "cuda" and "gpu" not in machine:
        return "no GPU here"
    missing = job.missing()
    if missing and not (setting.smoke and missing == ["trl"]):
        return f"not installed: {', '.join(missing)} (make bench or make bench-gpu installs it)"
    if job.form not in known_forms():
        return f'the output form "{job.form}" is not known here'
    if job.needs_fast_bfloat16 and fast_precision("cpu") != "bfloat16" and not setting.smoke:
        return "this processor is not fast in bfloat16"
    if needed > left:
        return f"no time left (it takes some {needed:.0f} s here; --minutes)"
    return ""


def measure(job: Job, setting: Setting, work: Path) -> tuple[list[Row] | str, float]:
    """(the rows, or what went wrong; seconds), in a process of its own; smoke runs stay in this one."""
    began = time.perf_counter()
    if setting.smoke:
        return list(job.rows(setting, work)), time.perf_counter() - began
    part = work / "part.json"
    part.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), "--job", job.name, "--json", str(part)]
    command += ["--device", setting.device, "--layers", str(setting.layers)]
    command += ["--repetitions", str(setting.repetitions), "--threads", str(setting.threads)]
    command += ["--full"] if setting.full else []
    # A model goes to the GPU where torch sees one, which rows of the CPU must not; a Trainer goes to all.
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    seen = {"CUDA_VISIBLE_DEVICES": "" if setting.is_cpu else first}
    part.parent.mkdir(parents=True, exist_ok=True)
    status = run(command, {**os.environ, **seen})
    seconds = time.perf_counter() - began
    if status or not part.exists():
        return f"its process ended with status {status}; what it said stands above", seconds
    rows = [from_json(one) for one in json.loads(part.read_text(encoding="utf-8"))]
    part.unlink()
    return rows, seconds


def run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """The status of a process whose output is for the person who waits; it ends when this one is stopped."""
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()  # and not killed: it may have started others
            process.wait()


def one_job(key: str, setting: Setting, work: Path, part: Path) -> int:
    """Measure in this process; the rows go to ``part``."""
    import torch

    from fedmedlora.model.memory import keep_freed_memory

    keep_freed_memory()
    if setting.threads:
        torch.set_num_threads(setting.threads)
    (job,) = [job for job in all_jobs() if job.name == key]
    rows = [to_json(row) for row in job.rows(setting, work)]
    write_whole(part, json.dumps(rows))
    return 0


def fresh_record() -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION, "jobs": {}}


def read_record(path: Path) -> dict[str, Any]:
    """What is finished. Raises ``ValueError`` for a file of something else."""
    if not path.exists():
        return fresh_record()
    record = json.loads(path.read_text(encoding="utf-8"))
    if (record.get("format"), record.get("version")) != (FORMAT, VERSION):
        raise ValueError(
            f"{path}: no file of benchmarks (format {FORMAT!r}, version {VERSION}); name another"
        )
    assert isinstance(record, dict)
    return record


def write_docs(files: Sequence[Path]) -> int:
    """Put the jobs of ``files`` into the page's own record, and the table of them all into the page."""
    record = read_record(RECORD)
    for file in files:
        if not file.exists():
            raise SystemExit(f"{file}: not there; `make bench` writes bench-run/cpu.json")
        jobs = read_record(file)["jobs"]
        if any(job["setting"]["smoke"] for job in jobs.values()):
            raise SystemExit(f"{file}: of a smoke run, whose numbers mean nothing; give that of a real one")
        record["jobs"] |= jobs
    write_whole(RECORD, json.dumps(record, indent=1) + "\n")
    write_page(PAGE, page_part(record, all_jobs()))
    say(f"Written: {RECORD.relative_to(ROOT)} and the table of {PAGE.relative_to(ROOT)}")
    return 0


def plain(rows: Sequence[Row]) -> str:
    """The rows for a terminal: one paragraph each."""
    return "\n".join(part for row in rows for part in paragraph(row))


def paragraph(row: Row) -> Iterator[str]:
    yield f"{row.name}\n  against {row.against or 'nothing'}; {row.where}"
    if row.why:
        yield f"  not measured: {row.why}"
    else:
        parts = [f"ratio {words_of(row.ratio)}" if row.ratio else "", row.found, row.same]
        yield "  " + "; ".join(part for part in parts if part)
    bound = f"bound {row.bound:.2f}" if row.bound is not None else ""
    verdict = {True: "met", False: "NOT met", None: ""}[row.met]
    if judged := ", ".join(
        part for part in (bound, f"target: {row.target}" if row.target else "", verdict) if part
    ):
        yield f"  {judged}"


def write_whole(path: Path, text: str) -> None:
    """Written beside its place and renamed, so that a call that is stopped leaves a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


if __name__ == "__main__":
    sys.exit(main())
