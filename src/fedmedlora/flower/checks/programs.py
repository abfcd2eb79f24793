"""The programs that a site runs: Python packages, their versions, and Flower's helpers beside this Python."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fedmedlora.flower.checks.finding import Finding
from fedmedlora.flower.site_file import SiteFile

VERSIONS, PROGRAMS = "versions", "programs"
PACKAGES = ("fedmedlora", "flwr", "torch", "transformers", "peft")
# SuperNode starts the second, which starts the third, by name; but see flower/superexec.py.
NEEDED = ("flower-supernode", "flower-superexec", "flwr-clientapp")
_INSTALL = "install the wheels of the kit again (README.md)"


def check_versions(site: SiteFile) -> Finding:
    """Versions of what the work depends on."""
    found, missing = {}, []
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            missing.append(name)
    told = ", ".join(
        [f"Python {platform.python_version()}", *(f"{name} {number}" for name, number in found.items())]
    )
    if missing:
        return Finding(VERSIONS, False, f"{told}; not installed: {', '.join(missing)}", _INSTALL)
    wanted = site.coordinator.version
    if wanted and found["fedmedlora"] != wanted:
        return Finding(VERSIONS, False, told, f"the consortium runs fedmedlora {wanted}; {_INSTALL}")
    return Finding(VERSIONS, True, told)


def check_programs(folder: Path = Path(sys.executable).parent) -> Finding:
    """Flower's programs in ``folder``, which `fedmedlora site start` puts first on the PATH."""
    missing = [name for name in NEEDED if not (folder / name).exists()]
    if missing:
        return Finding(PROGRAMS, False, f"not in {folder}: {', '.join(missing)}", _INSTALL)
    return Finding(PROGRAMS, True, f"Flower's are in {folder}")
