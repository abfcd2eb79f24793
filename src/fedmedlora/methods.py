"""The methods that a study compares: what each trains, at which sites, and under which rule."""

from __future__ import annotations

from dataclasses import dataclass

from fedmedlora.aggregation.rule import Rule, load_rule
from fedmedlora.sites import SiteInfo, Sites
from fedmedlora.study import Study

LABELS = {
    "zero_shot": "Zero-shot",
    "centralized": "Centralized",
    "fed_medlora": "Fed-MedLoRA",
    "fed_medlora_plus": "Fed-MedLoRA+",
}


@dataclass(frozen=True)
class Method:
    """One row of the main table. ``rule`` is None where nothing is trained.

    ``sites``: who trains; of centralized training, everybody as one. ``names``: which of them.
    """

    name: str
    label: str
    rule: Rule | None
    sites: Sites
    names: tuple[str, ...]

    @property
    def folder_name(self) -> str:
        """The name as a folder's: site names are safe, the colon is not everywhere."""
        return self.name.replace(":", "-")

    def infos(self) -> tuple[SiteInfo, ...]:
        """What is known of the sites that train."""
        return tuple(info for info in self.sites.infos if info.name in self.names)


def methods_of(study: Study, sites: Sites) -> tuple[Method, ...]:
    """The study's methods, single-site training once per site."""
    names = tuple(info.name for info in sites.infos)
    alone = load_rule("fed_medlora")
    found: list[Method] = []
    for name in study.methods:
        if name == "zero_shot":
            found.append(Method(name, LABELS[name], None, sites, ()))
        elif name == "single_site":
            found += [Method(f"{name}:{s}", f"{s} alone", alone, sites, (s,)) for s in names]
        elif name == "centralized":
            pooled = sites.pooled()
            found.append(Method(name, LABELS[name], alone, pooled, tuple(i.name for i in pooled.infos)))
        else:
            rule = study.rule(name)
            found.append(Method(name, LABELS.get(name, name), rule, sites, names))
    return tuple(found)
