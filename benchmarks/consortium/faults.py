"""What can go wrong: each fault as a function that is given the lab while a run is under way.

A fault waits for its phase, does its harm, and mends what a person would mend. It returns what it did, in
words, or raises ``Missed`` where the phase had passed before it could.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from consortium.lab import Lab
from consortium.phases import CLOSELY_S, PHASES, asked, training

LIMIT_S = 600.0
DOWN_S = 60.0
BEGINS_S = 20.0


class Missed(Exception):  # noqa: N818 - a state, not an error
    """The fault could not be done when it was meant to be."""


@dataclass(frozen=True)
class Fault:
    """``name``: its row. ``do``: the harm. ``rounds``: the study's ``[rounds]``. ``expect``: "same", or what
    a round says of the absent site. ``clock_s``: how far the first site's clock is off. ``is_told``: that
    site is told ``expect`` instead, and does not take part. ``disk``: a folder of the trial's that is a small
    disk of its own."""

    name: str
    do: Callable[[Lab], str]
    rounds: str = ""
    expect: str = "same"
    clock_s: int = 0
    is_told: bool = False
    disk: str = ""


def killed(program: str, phase: str) -> Fault:
    """SIGKILL to ``program`` in ``phase`` of the first round."""

    def do(lab: Lab) -> str:
        site = lab.network.sites[1]
        host = site if program in OF_A_SITE else "coordinator"
        if not lab.wait(PHASES[phase](lab, site), LIMIT_S, CLOSELY_S):
            raise Missed(f"{phase} was never reached")
        # Waited for: a ClientApp begins a moment after the question came.
        if not lab.wait(lambda: bool(lab.pids(host, program)), BEGINS_S, CLOSELY_S):
            raise Missed(f"no {program} was there")
        return f"{lab.kill(host, program)} killed"

    return Fault(f"SIGKILL of {program}, {phase}", do)


def superlink_down(lab: Lab) -> str:
    """The whole coordinator is away for a minute."""
    lab.wait(training(lab, lab.network.sites[0]), LIMIT_S, CLOSELY_S)
    process = lab.running.pop("coordinator")
    process.terminate()
    process.wait(60)
    time.sleep(DOWN_S)
    lab.start("coordinator")
    return f"down for {DOWN_S:.0f} s"


def cut_off(seconds: float) -> Callable[[Lab], str]:
    """A site hears nothing for so long, from amid its training."""

    def do(lab: Lab) -> str:
        site = lab.network.sites[2]
        lab.wait(training(lab, site), LIMIT_S, CLOSELY_S)
        lab.network.cut(site)
        time.sleep(seconds)
        lab.network.join(site)
        return f"cut off for {seconds:.0f} s"

    return do


def full_disk(where: str, place: str) -> Fault:
    """No room in ``place`` of the trial's folder for a while: a file fills the disk, and is removed."""

    def do(lab: Lab) -> str:
        lab.wait(asked(lab, lab.network.sites[1]), LIMIT_S, CLOSELY_S)
        filler = lab.folder / place / "filler"
        try:
            with filler.open("wb", buffering=0) as out:
                while True:
                    out.write(b"x" * (1 << 20))
        except OSError:
            pass
        time.sleep(DOWN_S)
        filler.unlink()
        return f"full for {DOWN_S:.0f} s"

    return Fault(f"full disk {where}", do, disk=place)


def slow(lab: Lab) -> str:
    """One site stands still beyond the deadline, and goes on."""
    site = lab.network.sites[3]
    lab.wait(training(lab, site), LIMIT_S, CLOSELY_S)
    pids = lab.pids(site, "ClientApp")
    if not pids:
        raise Missed("no ClientApp was there")
    _signal(pids, "STOP")
    time.sleep(90)
    _signal(pids, "CONT")
    return "stood still for 90 s"


def nothing(lab: Lab) -> str:
    """No harm."""
    return "nothing was done"


def clock(minutes: int, expect: str = "same") -> Fault:
    """The first site's clock is off by so much, all the time. ``expect``: what the site is told."""
    name = f"a site's clock off by {minutes} minutes"
    return Fault(name, nothing, expect=expect, clock_s=60 * minutes, is_told=expect != "same")


def _signal(pids: list[int], name: str) -> None:
    for pid in pids:
        subprocess.run(["kill", f"-{name}", str(pid)], check=False)


OF_THE_COORDINATOR = ("coordinator", "SuperLink", "ServerApp")
KEPT_RUNNING = ("site", "SuperNode", "SuperExec", "ready")  # at a site, whatever the phase
OF_A_SITE = (*KEPT_RUNNING, "ClientApp")
THREE_OF_FOUR = "quorum = 0.75\ndeadline_s = 60\n"
FAULTS: tuple[Fault, ...] = (
    Fault("nothing", nothing),
    *(killed(program, phase) for program in OF_THE_COORDINATOR for phase in PHASES),
    *(killed(program, phase) for program in KEPT_RUNNING for phase in PHASES),
    *(killed("ClientApp", phase) for phase in ("asked", "training", "sending")),  # and has ended after
    Fault("SuperLink and coordinator down for a minute", superlink_down),
    Fault("a site cut off for 30 s", cut_off(30)),
    Fault("a site cut off for 3 minutes", cut_off(180)),
    full_disk("under the run", "run"),
    full_disk("under SuperLink", "kits/coordinator/state"),
    full_disk("at a site", "kits/northgate/state"),
    Fault("a site slower than the deadline", slow, THREE_OF_FOUR, "no answer after"),
    clock(2),
    clock(-2),
    clock(10, "the coordinator does not accept the signature"),
    clock(-10, "the coordinator does not accept the signature"),
)
