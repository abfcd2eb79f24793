"""A run in the terminal: once, as JSON, or again and again until it ends."""

from __future__ import annotations

import json
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from fedmedlora.live_record import utc_now
from fedmedlora.watch.reading import find, read_status
from fedmedlora.watch.status import Status
from fedmedlora.watch.terminal import status_text

EVERY_S = 2.0


def show_status(
    state: Path, *, as_json: bool = False, follow: bool = False, console: Console | None = None
) -> None:
    """Print how the run at ``state`` stands (see ``reading.find``).

    ``as_json``: one line. ``follow``: until the run ends, in a terminal; elsewhere it is printed once.
    Raises ``ValueError`` for a folder without a run, and for a file that is damaged.
    """
    console = console or Console()
    if as_json:
        console.file.write(json.dumps(read_status(find(state)).to_json(), allow_nan=False) + "\n")
        return
    if not (follow and console.is_terminal):
        place = find(state)
        console.print(status_text(read_status(place), utc_now(), place.others))
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as shown:
        while True:
            place = find(state)
            status = read_status(place)
            shown.update(status_text(status, utc_now(), place.others), refresh=True)
            if not _goes_on(status):
                return
            time.sleep(EVERY_S)


def _goes_on(status: Status) -> bool:
    return bool(status.is_alive)
