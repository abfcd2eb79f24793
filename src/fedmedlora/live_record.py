"""``live.json``: how a run over a network stands at this moment.

The coordinator writes it while the run goes on, whoever watches reads it. It holds names, counts, times and
reasons, never anything of a note. What a site has said in its own words is cut and printable, and still
nobody's but the site's: whoever shows it escapes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from fedmedlora.printable import printable
from fedmedlora.run_folder import read_json, write_json

FILE_NAME = "live.json"
FORMAT, VERSION = "fedmedlora-live", 1
MOST_WORDS = 500  # characters of a reason
MOST_SITES = 10_000

Stage = Literal[
    "waiting for sites", "training", "aggregating", "validating", "reading tests", "finished", "stopped"
]
SiteState = Literal["not connected", "idle", "asked", "put off", "answered", "late", "absent", "refused"]
ENDED = ("finished", "stopped")  # stages that no other follows


@dataclass(frozen=True, slots=True)
class LiveSite:
    """One site. ``seen_utc``: when it was last known to be connected; "" for never.

    ``state``: of the last question. idle: there was none in this round. put off: not at this time, as it
    says; it is asked again. late: given up in its round, and may answer yet. absent: given up. refused: it
    would not, or its update was none. ``reason``: in words, of those four. ``upload_bytes``,
    ``download_bytes``: all questions and answers so far.
    """

    name: str
    is_connected: bool = False
    seen_utc: str = ""
    state: SiteState = "not connected"
    reason: str = ""
    upload_bytes: int = 0
    download_bytes: int = 0
    num_refusals: int = 0


@dataclass(frozen=True, slots=True)
class LiveRecord:
    """The run. ``round_num``: 0 outside rounds. ``since_utc``: when the stage began.

    ``reason``: why it stopped. ``doing``: the work at hand, in our words, or "". ``written_utc``: the last
    sign of life.
    """

    study: str
    num_rounds: int
    stage: Stage
    began_utc: str
    since_utc: str
    written_utc: str
    sites: tuple[LiveSite, ...]
    method: str = ""
    round_num: int = 0
    reason: str = ""
    doing: str = ""

    def to_json(self) -> dict[str, Any]:
        """For ``live.json``."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}


def read_live(folder: Path) -> LiveRecord | None:
    """The record in ``folder``, or None where there is none.

    Raises ``ValueError``, naming the key, for anything that ``write_live`` did not write.
    """
    path = folder / FILE_NAME
    found = read_json(path)
    return None if found is None else record_of(found, f"{path}:")


def write_live(folder: Path, record: LiveRecord) -> None:
    """Put ``record`` into ``folder``, whole or not at all."""
    write_json(folder / FILE_NAME, record.to_json())


def record_of(found: Any, place: str) -> LiveRecord:
    """What ``LiveRecord.to_json`` gave. Raises ``ValueError`` that begins with ``place``."""
    table = _Table(found, place)
    if (table.text("format"), table.count("version")) != (FORMAT, VERSION):
        raise ValueError(f"{place} not version {VERSION} of {FORMAT}; use the fedmedlora that wrote it")
    sites = table.take("sites", list)
    if len(sites) > MOST_SITES:
        raise ValueError(f"{place} sites: more than {MOST_SITES}")
    return LiveRecord(
        study=table.text("study"),
        num_rounds=table.count("num_rounds"),
        stage=table.one_of("stage", get_args(Stage)),
        began_utc=table.time("began_utc"),
        since_utc=table.time("since_utc"),
        written_utc=table.time("written_utc"),
        sites=tuple(_site(_Table(one, f"{place} sites[{n}]:")) for n, one in enumerate(sites)),
        method=table.text("method"),
        round_num=table.count("round_num"),
        reason=table.text("reason"),
        doing=table.text("doing"),
    )


def _site(table: _Table) -> LiveSite:
    return LiveSite(
        name=table.text("name"),
        is_connected=table.take("is_connected", bool),
        seen_utc=table.time("seen_utc") if table.text("seen_utc") else "",
        state=table.one_of("state", get_args(SiteState)),
        reason=table.text("reason"),
        upload_bytes=table.count("upload_bytes"),
        download_bytes=table.count("download_bytes"),
        num_refusals=table.count("num_refusals"),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """A JSON table that is read key by key."""

    found: Any
    place: str

    def take(self, key: str, kind: type) -> Any:
        value = self.found.get(key) if isinstance(self.found, Mapping) else None
        if not isinstance(value, kind):
            raise ValueError(f"{self.place} {key} is missing or of the wrong kind")
        return value

    def text(self, key: str) -> str:
        return plain(self.take(key, str))

    def count(self, key: str) -> int:
        value = self.take(key, int)
        if isinstance(value, bool) or not 0 <= value < 2**63:
            raise ValueError(f"{self.place} {key} is no count")
        return int(value)

    def one_of(self, key: str, allowed: tuple[str, ...]) -> Any:
        value = self.take(key, str)
        if value not in allowed:
            raise ValueError(f"{self.place} {key} is none of {', '.join(allowed)}")
        return value

    def time(self, key: str) -> str:
        value: str = self.take(key, str)
        try:
            return utc_text(utc_time(value))
        except ValueError:
            raise ValueError(f"{self.place} {key} is no time in UTC") from None


def plain(words: str, most: int = MOST_WORDS) -> str:
    """``words`` cut to ``most`` characters, every one that is not printable a blank."""
    cut = words if len(words) <= most else f"{words[: most - 1]}…"
    return printable(cut)


def utc_text(moment: datetime) -> str:
    """``2026-11-29T13:41:36Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_time(text: str) -> datetime:
    """What ``utc_text`` wrote. Raises ``ValueError`` for anything else."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def utc_now() -> str:
    """This moment, as text."""
    return utc_text(datetime.now(UTC))


def seconds_between(begun: str, ended: str) -> float:
    """From one moment (as ``utc_text``) to another, at least 0."""
    return max(0.0, (utc_time(ended) - utc_time(begun)).total_seconds())
