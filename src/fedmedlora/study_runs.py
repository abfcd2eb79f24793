"""A study of many runs: every arm under every seed, each an ordinary study of its own.

An arm is a named change of the study file; "main" is the file as it stands. What an arm changes is read
as the file itself is, so it can change whatever the file can say, and a key that does not exist is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fedmedlora.settings import nearest, read_table
from fedmedlora.study import Study
from fedmedlora.study_names import MAIN
from fedmedlora.study_tables import Arm

_BY_NAME = ("sites", "cohorts")  # lists of tables that have names


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run: ``study`` has one seed and no arms. ``folder``: where it goes, relative to the study's."""

    arm: Arm
    seed: int
    study: Study

    @property
    def folder(self) -> str:
        """``runs/ARM/seed-N``."""
        return f"runs/{self.arm.name}/seed-{self.seed}"

    @property
    def label(self) -> str:
        """How a person calls it."""
        return f"{self.arm.name}, seed {self.seed}"


def has_many_runs(study: Study) -> bool:
    """Whether the file asks for more than one run."""
    return bool(study.arms or study.seeds)


def arms_of(study: Study) -> tuple[Arm, ...]:
    """ "main" and the arms of the file."""
    return (Arm(MAIN, {}, title="the study as it stands"), *study.arms)


def runs_of(study: Study, only: Collection[str] = ()) -> tuple[PlannedRun, ...]:
    """All runs, arm by arm; ``only``: names of arms, empty for all.

    Raises ``ValueError`` for an arm that is not there, that changes nothing, or whose changes the study file
    itself could not say.
    """
    arms = arms_of(study)
    names = [arm.name for arm in arms]
    for name in only:
        if name not in names:
            raise ValueError(
                f"arm {name[:80]!r}: not known{nearest(name, names)}; the study has {', '.join(names)}"
            )
    seeds = study.seeds or (study.seed,)
    found = []
    for arm in arms:
        for seed in arm.seeds:
            if seed not in seeds or arm.seeds.count(seed) > 1:
                all_of_them = ", ".join(map(str, seeds))
                raise ValueError(
                    f"[[arms]] {arm.name} seeds: {seed} is to be one of the study's ({all_of_them}), once"
                )
        of_arm = arm.seeds or seeds
        runs = [PlannedRun(arm, seed, study_of(study, arm, seed)) for seed in of_arm]
        if arm.name != MAIN and runs[0].study == study_of(study, arms[0], of_arm[0]):
            raise ValueError(
                f"[[arms]] {arm.name} change: changes nothing; say what is different in this arm"
            )
        found += runs if not only or arm.name in only else []
    return tuple(found)


def study_of(study: Study, arm: Arm, seed: int) -> Study:
    """The study of one run. Raises ``ValueError``: see ``runs_of``."""
    table = study.to_dict()
    table["sample_seed"] = study.draw_seed()
    for key in ("seeds", "arms"):
        del table[key]
    place = f"[[arms]] {arm.name} change"
    for key in ("name", "seed", "seeds", "arms"):
        if key in arm.change:
            raise ValueError(f"{place}: {key} is the same for all arms")
    # Settings of rules that an arm leaves out, or that it does not name, stay as the file has them.
    _merge(table, arm.change, place)
    table["seed"] = seed
    around = {"folder": study.folder, "sites_are_here": study.sites_are_here}
    found = read_table(Study, table, f"{place}:", around)
    for where, path in found.files():
        if not found.resolve(path).exists():
            raise ValueError(f"{place}: {where}: {path} is not there; paths are relative to the study file")
    return found


def _merge(onto: dict[str, Any], changes: Mapping[str, Any], place: str) -> None:
    for key, value in changes.items():
        if key in _BY_NAME and isinstance(value, Mapping):
            by_name = {one["name"]: one for one in onto[key]}
            for name, change in value.items():
                if name not in by_name or not isinstance(change, Mapping):
                    raise ValueError(
                        f"{place}.{key}: no {name[:80]!r} among them{nearest(name, by_name)}; "
                        f"there are {', '.join(by_name) or 'none'}"
                    )
                by_name[name].update(change)
        elif isinstance(value, Mapping) and isinstance(onto.get(key), dict):
            _merge(onto[key], value, f"{place}.{key}")
        else:
            onto[key] = value
