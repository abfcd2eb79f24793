"""Whether the site's notes are there. Nothing is read, and nothing imported that reading them takes."""

from __future__ import annotations

from pathlib import Path

from fedmedlora.flower.checks.finding import Finding
from fedmedlora.flower.site_file import SiteFile

TRAIN, TEST = "training notes", "test notes"
CONVERT = (
    "`fedmedlora corpora convert` brings notes in other formats and labels (docs/formats.md), and --schema "
    "names a schema of the study's own"
)


def check_there(site: SiteFile) -> tuple[Finding, ...]:
    """Whether the files of notes that ``site.toml`` names are there; what they hold is not looked at."""
    findings = []
    for what, name in wanted(site).items():
        try:
            site.path(name).stat()
        except OSError as error:
            findings.append(not_readable(what, site.path(name), error))
        else:
            findings.append(Finding(what, True, f"{name} is there"))
    return tuple(findings)


def wanted(site: SiteFile) -> dict[str, str]:
    """What notes are for -> the file of ``site.toml``."""
    return {TRAIN: site.train} | ({TEST: site.test} if site.test else {})


def not_readable(what: str, path: Path, error: OSError) -> Finding:
    """What to do about a file of notes that cannot be opened."""
    key = "train" if what == TRAIN else "test"
    if isinstance(error, FileNotFoundError):
        none = "" if what == TRAIN else ', or write test = "" for none'
        advice = f"put annotated notes there, or name the file under {key} in site.toml{none}; {CONVERT}"
        return Finding(what, False, f"{path}: there is no such file", advice)
    where = f"correct {key} in site.toml, or let this account read it"
    return Finding(what, False, f"{path}: {error.strerror}", where)
