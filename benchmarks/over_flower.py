"""The same study in this process and over Flower on loopback: the same adapters? And what does it cost?

    python benchmarks/over_flower.py study.toml SITE.toml SITE.toml SITE.toml --out FOLDER [--json]

Starts a SuperLink and a SuperNode per site on this machine. Both runs read the same notes: the study file
names the sites' notes for the run in this process, each site.toml names them for its site.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from fedmedlora.flower.loopback import CONNECTION, Loopback
from fedmedlora.model.saved import read_saved_adapter


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("sites", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="new folder for both runs")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    command = [sys.executable, "-m", "fedmedlora", "run", str(arguments.study)]
    seconds = {}
    with Loopback(out / "flower") as loopback:
        seconds["in-process"] = timed([*command, "--out", str(out / "here")], loopback)
        loopback.start_superlink("--database", str(out / "superlink.db"))
        for site in arguments.sites:
            loopback.start_supernode(site)
        over = ["--out", str(out / "there"), "--carrier", "flower", "--superlink", CONNECTION]
        seconds["flower"] = timed([*command, *over], loopback)
    found = {"seconds": seconds, "methods": {}}
    for folder in sorted((out / "here" / "adapters").iterdir()):
        pairs = [read_saved_adapter(out / run / "adapters" / folder.name).arrays for run in ("here", "there")]
        same = pairs[0].keys() == pairs[1].keys() and all(
            np.array_equal(array, pairs[1][name]) for name, array in pairs[0].items()
        )
        found["methods"][folder.name] = {"num_arrays": len(pairs[0]), "equal": bool(same)}
    if arguments.json:
        print(json.dumps(found))
    else:
        for carrier, taken in seconds.items():
            print(f"{carrier:<12}{taken:8.0f} s")
        for name, one in found["methods"].items():
            print(f"{name:<20}{one['num_arrays']:4d} arrays {'equal' if one['equal'] else 'DIFFERENT'}")
    return 0 if all(one["equal"] for one in found["methods"].values()) else 1


def timed(command: list[str], loopback: Loopback) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, env=loopback.environment, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed; logs in {loopback.folder}")
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
