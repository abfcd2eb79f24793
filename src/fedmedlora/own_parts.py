"""What sites keep to themselves from one round to the next, by run and method.

Their own factors under a rule that sends the others alone (``exchange/local.py``), and what a codec has not
sent yet (``exchange/change.py``). A site elsewhere works for several runs in one folder, so what it goes on
with is named by the run and by the round that it kept it in.
"""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.run_folder import write_file

_LOST = "what the site has learned by itself is lost; begin the run again in another folder (--out)"


@dataclass(frozen=True, slots=True)
class OwnParts:
    """What sites keep to themselves between the rounds of a method: arrays that do not travel, or not yet.

    ``whose``: the method, and the run where one folder serves several (``Errand.whose``). ``most``: of so
    many of them things are kept, the last used; 0: of all.
    """

    folder: Path
    most: int = 0

    def load(self, whose: str, site: str, last_round: int) -> Adapter | None:
        """What ``site`` kept of ``last_round``, the last round that it took part in; None for 0, none yet.

        Raises ``ValueError`` where that is missing or damaged. What was kept of another round is no
        substitute.
        """
        if last_round == 0:
            return None
        path = self._folder(whose, site) / _name(last_round)
        try:
            return Adapter.from_bytes(path.read_bytes(), check_finite=True)
        except FileNotFoundError as error:
            raise ValueError(f"{path}: missing; {_LOST}") from error
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: damaged; {_LOST}") from error

    def latest(self, whose: str, site: str) -> Adapter | None:
        """What ``site`` kept of the last round of all that it took part in, or None. Raises as ``load``."""
        return self.load(whose, site, max(self.rounds(whose, site), default=0))

    def rounds(self, whose: str, site: str) -> list[int]:
        """The rounds of which something is kept, in order."""
        return sorted(int(path.stem) for path in self._folder(whose, site).glob("*.safetensors"))

    def save(self, whose: str, site: str, round_num: int, own: Adapter, *, beside: int | None = None) -> None:
        """Keep ``own``, after round ``round_num``; what was kept of later rounds was of an earlier try.

        ``beside``: only what was kept of that round stays beside it; None: all that is earlier.
        """
        folder = self._folder(whose, site)
        write_file(folder / _name(round_num), own.to_bytes())
        found = self.rounds(whose, site)
        stay = {round_num, beside} if beside is not None else {one for one in found if one <= round_num}
        for one in set(found) - stay:
            (folder / _name(one)).unlink(missing_ok=True)
        keep_last_used(self.folder, self.most, folder.parent)

    def clear(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _folder(self, whose: str, site: str) -> Path:
        # A method's name may have come over a network: it names no path.
        return self.folder / hashlib.sha256(whose.encode()).hexdigest()[:16] / site


def _name(round_num: int) -> str:
    return f"{round_num:04d}.safetensors"


def keep_last_used(folder: Path, most: int, current: Path) -> None:
    """Keep ``most`` of the folders in ``folder`` (0: all): ``current``, and those written to last.

    So whoever makes the site begin new ones, over a network or run after run, does not fill its disk.
    """
    if not most:
        return
    others = [path for path in folder.iterdir() if path.is_dir() and path != current]
    for path in sorted(others, key=_last_written, reverse=True)[most - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


def _last_written(folder: Path) -> tuple[int, str]:
    times = [0]
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # another process may be at work there
            times.append(path.stat().st_mtime_ns)
    return max(times), folder.name
