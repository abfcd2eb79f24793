"""TensorBoard: event files under the run's own folder, ``tensorboard/RUN``."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Board:
    """See ``tracker.Tracker``."""

    def __init__(self, folder: Path) -> None:
        """``folder``: of the event files."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def settings(self, found: Mapping[str, str]) -> None:
        """See ``tracker.Tracker``: as a table of Markdown."""
        rows = [f"| {name} | {value.replace('|', ' ')} |" for name, value in found.items()]
        self._writer.add_text("settings", "\n".join(["| setting | value |", "|---|---|", *rows]))

    def number(self, name: str, value: float, step: int) -> None:
        """See ``tracker.Tracker``."""
        self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See ``tracker.Tracker``."""
        self._writer.close()


def require() -> None:
    """Raise ``ValueError`` where the library is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ValueError('tracker "tensorboard": its library is not installed: pip install tensorboard')


def open_tracker(study: str, run: str, folder: Path) -> Board:
    """The tracker of one run."""
    return Board(folder / "tensorboard" / run.replace(", ", "-").replace(" ", "-"))
