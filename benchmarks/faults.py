"""A federation over shaped links, and the same with every fault: what does it end with?

    sudo .venv/bin/python benchmarks/faults.py --out /srv/faults [--only SuperNode "full disk"] [--times 1]

Real processes: a coordinator and four sites in network namespaces of their own, TLS and node authentication
on, links of 50 Mbit/s with 40 ms added to a round trip, SmolLM2-135M on synthetic cohorts. Needs Linux, root,
iproute2, and for wrong clocks a C compiler. A trial ends with the last round's adapter; the undisturbed one,
and with ``--whole`` every one, goes on until the sites have read their test notes. What is finished is kept
in ``results.json``, so a call that was stopped goes on, and tries again what it missed; the table is printed,
and written to ``faults.md``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from consortium.faults import FAULTS, Fault, Missed
from consortium.lab import FEDMEDLORA, PORT, Lab, lab
from consortium.network import COORDINATOR_ADDRESS, MEETING_ADDRESS, Network, network

SITES = ("lakeside", "northgate", "stonebridge", "westfield")
HOSPITALS = ("lakeside", "northgate", "stonebridge", "lakeside")
MBIT = 50.0
LIMIT_S = 1500.0
ROUNDS = 2
MISSED = "missed: "

STUDY = """\
name = "Four hospitals"
seed = 5
methods = ["fed_medlora"]
[adapter]
rank = 16
[tasks]
prompts = "short"
[training]
rounds = {num_rounds}
steps_per_round = 2
examples_per_step = 4
max_train_examples = 40
warmup_steps = 0
[rounds]
{rounds}
[evaluation]
max_sentences = 2
bootstrap = 0
every_round = false
"""


def main() -> None:
    """Parse, run what is missing, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[""], help="faults whose name holds one of these")
    parser.add_argument("--times", type=int, default=1, help="how often each is tried")
    parser.add_argument("--whole", action="store_true", help="wait until the test notes are read, too")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    wanted = [fault for fault in FAULTS if any(part in fault.name for part in args.only)]
    if args.list:
        print("\n".join(fault.name for fault in wanted))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    made = args.out / "made"
    if not (made / "study.toml").exists():
        make(made)
    kept = args.out / "results.json"
    before: list[dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else []
    results = [one for one in before if not one["end"].startswith(MISSED)]
    with network(SITES, mbit=MBIT) as net:
        for fault in [FAULTS[0], *wanted]:
            num = sum(1 for one in results if one["fault"] == fault.name)
            for _ in range(num, 1 if fault is FAULTS[0] else args.times):
                is_whole = args.whole or fault is FAULTS[0]
                found = tried(fault, made, args.out, net, results, is_whole=is_whole)
                print(f"{fault.name}: {found['end']}", flush=True)
                results.append(found)
                kept.write_text(json.dumps(results, indent=1))
    page = table(results)
    (args.out / "faults.md").write_text(page)
    print(page)


def make(folder: Path) -> None:
    """Cohorts, kits and study, once."""
    folder.mkdir(parents=True)
    sites = "".join(f'[[sites]]\nname = "{name}"\ntest = "test.jsonl"\n' for name in SITES)
    (folder / "consortium.toml").write_text(
        f'name = "Four hospitals"\n[coordinator]\naddress = "{MEETING_ADDRESS}:{PORT}"\n'
        f'other_names = ["{COORDINATOR_ADDRESS}"]\nlisten = "{COORDINATOR_ADDRESS}:{PORT}"\n'
        f"control_port = {PORT + 1}\n{sites}"
    )
    run("provision", str(folder / "consortium.toml"), "--out", str(folder / "kits"))
    for number, (site, hospital) in enumerate(zip(SITES, HOSPITALS, strict=True)):
        for part, num in (("train", "12"), ("test", "2")):
            path = str(folder / "kits" / site / f"{part}.jsonl")
            run("corpora", "synthesize", hospital, num, path, "--part", part, "--seed", str(number))
    rounds = "quorum = 1.0"
    names = "".join(f'[[sites]]\nname = "{site}"\n' for site in SITES)
    (folder / "study.toml").write_text(STUDY.format(rounds=rounds, num_rounds=ROUNDS) + names)


def run(*words: str) -> None:
    """``fedmedlora WORDS``."""
    subprocess.run([*FEDMEDLORA, *words], check=True, stdout=subprocess.DEVNULL)


def tried(
    fault: Fault, made: Path, out: Path, net: Network, results: list[dict[str, Any]], *, is_whole: bool
) -> dict[str, Any]:
    """One trial of ``fault``: what was done, how it ended, how long it took. ``is_whole``: with the reading
    of the test notes after the last round."""
    reference = next((one["adapter"] for one in results if one["fault"] == FAULTS[0].name), "")
    folder, began, did = out / "trial", time.monotonic(), ""
    disks = [folder / fault.disk] if fault.disk else []
    with lab(made, folder, net, rounds=fault.rounds, clock_s=fault.clock_s, disks=disks) as trial:
        try:
            did = fault.do(trial)
            if fault.is_told:
                told = trial.wait(lambda: fault.expect in trial.said(SITES[0]), 180)
                end = f"told: {fault.expect}" if told else f"NOT TOLD: {last_words(trial)}"
                return found_of(fault, trial, did, end, began)
            end_of_it = trial.out / (
                "results.json" if is_whole else f"methods/fed_medlora/round-{ROUNDS:03d}.json"
            )
            ended = trial.wait(end_of_it.exists, LIMIT_S)
            end = outcome(trial, fault, reference) if ended else f"not finished: {last_words(trial)}"
        except Missed as missed:
            end = f"{MISSED}{missed}"
        return found_of(fault, trial, did, end, began)


def found_of(fault: Fault, trial: Lab, did: str, end: str, began: float) -> dict[str, Any]:
    """What is kept of a trial."""
    return {
        "fault": fault.name,
        "did": did,
        "end": end,
        "adapter": adapter_of(trial),
        "absent": absent(trial),
        "interrupted": trial.said("coordinator").count("interrupted:"),
        "seconds": round(time.monotonic() - began, 1),
    }


def outcome(trial: Lab, fault: Fault, reference: str) -> str:
    """How a finished run compares with the undisturbed one."""
    found = adapter_of(trial)
    if not reference:
        return "finished"
    if fault.expect == "same":
        return "the same adapter" if found == reference else "ANOTHER ADAPTER"
    reasons = "; ".join(absent(trial))
    return f"absent: {reasons}" if fault.expect in reasons else f"UNEXPECTED: {reasons or 'nobody absent'}"


def adapter_of(trial: Lab) -> str:
    """sha256 of the adapter that the last round left, or ""."""
    records = sorted((trial.out / "methods" / "fed_medlora").glob("round-*.json"))
    return str(json.loads(records[-1].read_text())["adapter_hash"]) if records else ""


def absent(trial: Lab) -> list[str]:
    """Who was absent, and why."""
    found = []
    for path in sorted((trial.out / "methods" / "fed_medlora").glob("round-*.json")):
        record = json.loads(path.read_text())
        found += [f"round {record['round_num']}, {one['site']}: {one['reason']}" for one in record["absent"]]
    return found


def last_words(trial: Lab) -> str:
    """The last lines that coordinator and sites told."""
    lines = [trial.said(host).strip().splitlines()[-1:] for host in ("coordinator", *SITES)]
    return " | ".join(line[0][:160] for line in lines if line)


def table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown, a row a fault."""
    rows = ["| fault | tried | ended with | runs that were begun anew | seconds |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(one["fault"] for one in results):
        same = [one for one in results if one["fault"] == name]
        ends = "; ".join(dict.fromkeys(str(one["end"]) for one in same))
        again = ", ".join(str(one["interrupted"]) for one in same)
        seconds = ", ".join(f"{one['seconds']:.0f}" for one in same)
        rows.append(f"| {name} | {len(same)} | {ends} | {again} | {seconds} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
