"""stub"""

from __future__ import annotations

from dataclasses import replace


def deal(cohorts, num_sites, *, how, seed, concentration=0.5):
    notes = [
        replace(n, id=f"{c}/{n.id}", group=f"{c}/{n.group}" if n.group else "")
        for c, ns in cohorts.items()
        for n in ns
    ]
    return {f"site-{i + 1:02d}": tuple(notes[i::num_sites]) for i in range(num_sites)}
