"""The texts of a kit: README, ``site.toml``, ``coordinator.toml``, start scripts. Values in, text out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from string import Template
from typing import Any

from fedmedlora.provision.consortium import Consortium, Member

_WHEELS_ELSEWHERE = (
    "and with the consortium's packages in `wheels/` (this kit came without them: ask for the folder, and do "
    "not install from an index)"
)
_MODEL_ELSEWHERE = "The base model is `{}`: it must be on this machine, under the name that `[model]` gives."


@dataclass(frozen=True, slots=True)
class KitFacts:
    """What every kit's texts say beside ``consortium.toml``.

    ``version``: of fedmedlora. ``install``: what follows ``pip install``. ``model``: as ``site.toml`` names
    it. ``model_hash``, ``bundle``: "" where it is not known. ``python``: the only Python that will do; ""
    where every one from 3.11 does. ``has_wheels``: whether what is installed lies in the kits.
    """

    ca_fingerprint: str
    version: str
    install: str
    model: str
    model_hash: str = ""
    bundle: str = ""
    python: str = ""
    has_wheels: bool = False

    def install_texts(self) -> dict[str, str]:
        """What the READMEs say of Python and of what is installed."""
        return {
            "install": self.install,
            "wheels": "" if self.has_wheels else f", {_WHEELS_ELSEWHERE}",
            "python": f"python{self.python or '3.11'}",
            "python_words": f"Python {self.python}" if self.python else "Python 3.11 or newer",
        }


def site_toml(consortium: Consortium, site: Member, facts: KitFacts, key_fingerprint: str) -> str:
    """The ``site.toml`` of ``site``."""
    return _filled(
        "site.toml",
        {
            "comment_site": site.name,
            "name": toml_value(site.name),
            "train": toml_value(site.train),
            "test": toml_value(site.test),
            "model": toml_value(facts.model),
            "address": toml_value(consortium.coordinator.address),
            "ca_fingerprint": toml_value(facts.ca_fingerprint),
            "key_fingerprint": toml_value(key_fingerprint),
            "model_hash": toml_value(facts.model_hash),
            "version": toml_value(facts.version),
            "bundle": toml_value(facts.bundle),
            "proxy": toml_value(site.proxy),
            "allows": "\n".join(f"{key} = {toml_value(value)}" for key, value in consortium.allows.items()),
        },
    )


def coordinator_toml(consortium: Consortium) -> str:
    """The ``coordinator.toml``."""
    place = consortium.coordinator
    return _filled(
        "coordinator.toml",
        {
            "comment_consortium": consortium.name,
            "address": toml_value(place.address),
            "listen": toml_value(str(place.listens_on())),
            "control": toml_value(str(place.control())),
        },
    )


def site_readme(
    consortium: Consortium, site: Member, facts: KitFacts, key_fingerprint: str, *, key_is_here: bool
) -> str:
    """One page for the engineer who receives the kit of ``site``."""
    return _filled(
        "site-README.md",
        {
            **facts.install_texts(),
            "site": site.name,
            "consortium": consortium.name,
            "address": consortium.coordinator.address,
            "proxy": f" through the web proxy `{site.proxy}`" if site.proxy else "",
            "own_key": "" if key_is_here else ", with the `site.key` that you made in `site-kit/` beside it",
            "key_command": "" if key_is_here else "cp ../site-kit/site.key .\n",
            "model": "" if facts.model_hash else f" {_MODEL_ELSEWHERE.format(facts.model)}",
            "ca_fingerprint": facts.ca_fingerprint,
            "key_fingerprint": key_fingerprint,
        },
    )


def coordinator_readme(
    consortium: Consortium, facts: KitFacts, fingerprints: Mapping[str, str], ends: datetime
) -> str:
    """One page for the person who runs the coordinator. ``fingerprints``: of the keys, by site."""
    place = consortium.coordinator
    return _filled(
        "coordinator-README.md",
        {
            **facts.install_texts(),
            "consortium": consortium.name,
            "address": place.address,
            "port": str(place.listens_on().port),
            "listen": str(place.listens_on()),
            "control": str(place.control()),
            "ca_fingerprint": facts.ca_fingerprint,
            "site_fingerprints": "\n".join(f"* {name}: `{found}`" for name, found in fingerprints.items()),
            "ends": f"{ends:%Y-%m-%d}",
            "hosts": ", ".join(place.hosts()),
        },
    )


def start_script(kind: str) -> str:
    """The ``start.sh`` of a ``"site"`` or the ``"coordinator"``: the same for all, with nothing of theirs."""
    return _template(f"{kind}-start.sh")


def toml_value(value: Any) -> str:
    """A text, number, truth value or list of them as TOML. Raises ``ValueError`` for anything else."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(toml_value(one) for one in value)}]"
    raise ValueError(f"[allows]: a value of kind {type(value).__name__} cannot be proposed to a site")


def _filled(name: str, values: Mapping[str, str]) -> str:
    lines = Template(_template(name)).substitute(values).splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _template(name: str) -> str:
    return (files("fedmedlora.provision") / "templates" / name).read_text(encoding="utf-8")
