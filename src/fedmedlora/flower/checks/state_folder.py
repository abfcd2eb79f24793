"""The folder of what the site keeps between rounds: its own, and writable."""

from __future__ import annotations

import tempfile

from fedmedlora.flower.checks.finding import Finding
from fedmedlora.flower.site_file import SiteFile

STATE = "state folder"


def check_state(site: SiteFile) -> Finding:
    """Whether files can be written there."""
    folder = site.path(site.state)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return Finding(
            STATE,
            False,
            f"{folder}: {error.strerror}",
            "let the account that runs the site write there, or name another folder as state in site.toml",
        )
    others = folder.stat().st_mode & 0o077
    advice = f"other accounts can look into it: chmod 700 {folder}" if others else ""
    return Finding(STATE, True, f"{folder} can be written", advice)
