"""What a kit may carry beside keys and texts, so that a site needs no internet: wheels and the base model.

Files are linked where the file system can, and copied otherwise: ten kits hold one copy of a model.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

WHEELS, MODEL = "wheels", "model"
# What a model needs to run, and no second copy of its weights in another format.
_OF_A_MODEL = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True, slots=True)
class Payload:
    """``wheelhouse``, ``model``: folders, or None. ``model_hash``: of the model, as a site computes it."""

    wheelhouse: Path | None = None
    model: Path | None = None
    model_hash: str = ""

    def check(self) -> None:
        """Raise ``ValueError`` where a folder does not hold what it should."""
        ours = () if self.wheelhouse is None else _our_versions(self.wheelhouse)
        if self.wheelhouse is not None and not ours:
            raise ValueError(
                f"--wheelhouse {self.wheelhouse}: holds no wheel of fedmedlora (fedmedlora-VERSION-py3-none-"
                "any.whl); docs/consortium.md says how a wheelhouse is made"
            )
        if len(ours) > 1:  # which of them is the newer one is not for the order of their names to say
            raise ValueError(
                f"--wheelhouse {self.wheelhouse}: holds several versions of fedmedlora ({', '.join(ours)}); "
                "a kit installs one: remove the wheels of the others"
            )
        self.python()
        if self.model is not None and not self.model_hash:
            raise ValueError(
                f"--model {self.model}: holds no *.safetensors; name a folder as transformers saves a model"
            )

    def bundle(self) -> str:
        """sha256 of the one file of the app bundle that the kits' fedmedlora has; "" where that is another
        version than the one that runs here."""
        if self.version() != version("fedmedlora"):
            return ""
        file = files("fedmedlora") / "flower" / "app" / "pyproject.toml"
        return hashlib.sha256(file.read_bytes()).hexdigest()

    def version(self) -> str:
        """The version of fedmedlora that the kits install: the wheelhouse's, or the one that runs here."""
        return version("fedmedlora") if self.wheelhouse is None else _our_versions(self.wheelhouse)[0]

    def python(self) -> str:
        """Which Python the kits need: ``"3.11"`` where wheels are for that one alone, else ``""``."""
        wheels = [] if self.wheelhouse is None else [f.name for f in self.wheelhouse.glob("*.whl")]
        # NAME-VERSION-cp311-cp311-PLATFORM.whl; with abi3 in its place later Pythons will do.
        found = {match.group(1) for name in wheels if (match := re.search(r"-cp3\d+-cp3(\d+)-", name))}
        if len(found) > 1:
            numbers = ", ".join(f"3.{number}" for number in sorted(found))
            raise ValueError(
                f"--wheelhouse {self.wheelhouse}: holds wheels for several Pythons ({numbers}); a kit is for "
                "one: make the wheelhouse anew, in an empty folder"
            )
        return f"3.{found.pop()}" if found else ""

    def install(self) -> str:
        """What follows ``pip install`` in a kit's README: never an index, where anybody may own the name."""
        return f"--no-index --find-links {WHEELS} 'fedmedlora[flower]=={self.version()}'"

    def model_name(self) -> str:
        """The model as a ``site.toml`` names it; "" where the kit holds none."""
        return MODEL if self.model is not None else ""


def place_payload(payload: Payload, kit: Path) -> tuple[str, ...]:
    """Put what ``payload`` holds into the folder ``kit``; what is there already stays.

    Returns the folders into which something was put.
    """
    parts = []
    if payload.wheelhouse is not None:
        parts.append((WHEELS, sorted(payload.wheelhouse.glob("*.whl"))))
    if payload.model is not None:
        parts.append((MODEL, sorted({f for pattern in _OF_A_MODEL for f in payload.model.glob(pattern)})))
    changed = []
    for name, found in parts:
        (kit / name).mkdir(exist_ok=True, mode=0o700)
        placed = [_place(file, kit / name / file.name) for file in found]
        if any(placed):
            changed.append(f"{name}/")
    return tuple(changed)


def _place(source: Path, target: Path) -> bool:
    if target.exists():
        if target.samefile(source) or filecmp.cmp(source, target, shallow=False):
            return False
        target.unlink()
    source = source.resolve()  # a hub's cache links its files; a link would lead nowhere at the site
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return True


def _our_versions(folder: Path) -> tuple[str, ...]:
    """The versions of the fedmedlora wheels in ``folder``, each once."""
    found = [re.match(r"fedmedlora-([^-]+)-", f.name) for f in sorted(folder.glob("fedmedlora-*.whl"))]
    return tuple(dict.fromkeys(match.group(1) for match in found if match))
