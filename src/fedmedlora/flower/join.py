"""``fedmedlora site start``: this site's SuperNode, kept running and connected to the coordinator.

The SuperNode opens one connection, to the coordinator. Its own helpers reach it on a free port of 127.0.0.1.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedmedlora.as_program import as_program
from fedmedlora.flower.checks.credentials import check_authority, check_key
from fedmedlora.flower.checks.there import check_there
from fedmedlora.flower.loopback import free_port
from fedmedlora.flower.site_file import SiteFile, load_site_file
from fedmedlora.flower.site_program import ANSWERS, SILENT, node_config
from fedmedlora.flower.submit import QUIET, own_path
from fedmedlora.flower.supervise import Kept, Program, Tell, keep_running, told_to_stop
from fedmedlora.only_one import only_one

THIS_MACHINE = "127.0.0.1"
_CONNECTED = b"SuperNode ID:"  # Flower's own words, once the coordinator took the key
_SILENT, _ANSWERS = SILENT.encode(), ANSWERS.encode()
_LEFT = b"SuperNode terminated gracefully"  # before it was connected: a 401, of which Flower says nothing
_NOT_ACCEPTED = (
    "the coordinator does not accept the signature: a clock that is minutes wrong, or a key that was "
    "withdrawn; `fedmedlora site check` compares the clocks"
)
# Flower's words for what a person can do something about, and ours; of several in a line, the last ones here.
_TROUBLE = {
    b"[code: 2004]": "the coordinator does not take this site's key: it is not registered there, or the site "
    "counts as connected still (up to a minute after a crash)",
    b"CERTIFICATE_VERIFY_FAILED": "the coordinator's certificate is not to be trusted from here; "
    "`fedmedlora site check` says why",
    b"certificate has expired": "the coordinator's certificate has ended, or this machine's clock is ahead; "
    "`fedmedlora site check` says which",
    b"401 Unauthorized": _NOT_ACCEPTED,
}
_MOST_READ_BYTES = 1_000_000
SILENT_S = 30.0  # after which a site whose coordinator does not answer says so


def start_site(path: Path, tell: Tell) -> None:
    """Join the study as the site of ``path``, and stay until told to stop.

    Raises ``ValueError`` for a file without ``[coordinator]``, keys that are not in order, notes that are not
    there, and a site that is running already.
    """
    file = load_site_file(path)
    if not file.coordinator.address:
        raise ValueError(
            f"{path.name}: [coordinator] address: missing; a startup kit fills it in (docs/consortium.md)"
        )
    for finding in (check_authority(file), check_key(file), *check_there(file)):
        if not finding.ok:
            raise ValueError(f"{finding.name}: {finding.found}; {finding.advice}")
    state = file.path(file.state)
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    running = f"{file.name} is running already (its state: {state})"
    with only_one(state / "supernode.lock", running), told_to_stop() as stopping:
        kept = Kept(supernode(file, path, os.environ, free_port()), tell)
        tell(f"{file.name} joins {file.coordinator.address}; log: {kept.program.log}; Ctrl-C ends it")
        keep_running([kept], stopping, _Watch(kept, file.coordinator.address, tell).look)
        tell(f"{file.name} has left")


def supernode(file: SiteFile, path: Path, environ: Mapping[str, str], port: int) -> Program:
    """The SuperNode of the site ``file``, which was read from ``path``. ``port``: on 127.0.0.1."""
    node_config(path)  # refused here and not in a log
    state = file.path(file.state).resolve()
    return Program(
        "SuperNode",
        (
            *as_program("flower.site_program"),
            "--site",
            str(path.resolve()),
            "--superlink",
            file.coordinator.address,
            "--root-certificates",
            str(file.path(file.coordinator.ca).resolve()),
            "--auth-supernode-private-key",
            str(file.path(file.coordinator.key).resolve()),
            "--host",
            THIS_MACHINE,
            "--port",
            str(port),
        ),
        site_environment(file, environ),
        state / "log" / "supernode.log",
    )


def site_environment(file: SiteFile, environ: Mapping[str, str]) -> dict[str, str]:
    """What the site's programs see: nothing phones home, nothing is fetched, one way out."""
    proxies = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    found = {name: value for name, value in environ.items() if name.lower() not in proxies}
    found |= QUIET | {
        # SuperNode looks for its own helpers there.
        "PATH": own_path(environ),
        "FLWR_HOME": str(file.path(file.state).resolve() / "flwr"),
        "HF_HUB_OFFLINE": environ.get("HF_HUB_OFFLINE", "1"),
        "NO_PROXY": "127.0.0.1,localhost,::1",
    }
    if file.coordinator.proxy:
        found["HTTPS_PROXY"] = file.coordinator.proxy
    return found


@dataclass
class _Watch:
    """Looks into the SuperNode's log for the few things that a person wants to be told."""

    kept: Kept
    address: str
    tell: Tell
    clock: Callable[[], float] = time.monotonic
    _told: str = ""
    _start: int = 0  # the one that runs
    _read_to: int = 0  # in its log, bytes
    _is_connected: bool = False
    _is_unanswered: bool = False  # by its last word about the coordinator, or that of the start before
    # For the coordinator's first or next word; None: there was one, or other trouble was told.
    _waits_since: float | None = None

    def look(self) -> None:
        kept = self.kept
        if self._start != kept.num_starts:
            self._start, self._read_to, self._is_connected = kept.num_starts, kept.log_from, False
            if self._told == self._connected:  # once more, for that it ended has been told as well
                self._told = ""
            if not self._is_unanswered:  # one that ends again and again because nobody answers waits on
                self._waits_since = self.clock()
        for line in self._new_lines():
            self._hear(line)
        since = self._waits_since
        is_waiting = kept.is_running or self._is_unanswered
        if is_waiting and since is not None and self.clock() - since > SILENT_S:
            self._tell_once(
                f"{self.address} has not answered in {SILENT_S:.0f} s; the site keeps trying. Does the "
                "coordinator run? `fedmedlora site check` looks at the way there"
            )

    @property
    def _connected(self) -> str:
        return f"connected to {self.address}"

    def _new_lines(self) -> list[bytes]:
        """Whole ones, written since the last time; none where the disk gives none, which ends no site."""
        try:
            with self.kept.program.log.open("rb") as log:
                if log.seek(0, os.SEEK_END) < self._read_to:  # somebody has emptied it
                    self._read_to = 0
                log.seek(self._read_to)
                said = log.read(_MOST_READ_BYTES)
        except OSError:
            return []
        end = said.rfind(b"\n") + 1
        whole = said[:end] if end or len(said) < _MOST_READ_BYTES else said  # a line longer than that
        self._read_to += len(whole)
        return whole.splitlines()

    def _hear(self, line: bytes) -> None:
        if _SILENT in line:
            self._is_unanswered = True
            if self._waits_since is None:
                self._waits_since = self.clock()
            return
        if _ANSWERS in line:
            self._is_unanswered = False
        if _CONNECTED in line or (self._is_connected and _ANSWERS in line):
            self._is_connected, self._is_unanswered, self._waits_since = True, False, None
            self._tell_once(self._connected)
        elif not self._is_connected:
            # It leaves for other reasons too, which are known by then.
            is_refused = _LEFT in line and not self._is_unanswered and self._waits_since is not None
            found = _NOT_ACCEPTED if is_refused else ""
            for words, meaning in _TROUBLE.items():
                found = meaning if words in line else found
            if found:
                self._waits_since = None
                self._tell_once(found)

    def _tell_once(self, words: str) -> None:
        if words != self._told:  # again and again while it is tried again and again
            self.tell(words)
        self._told = words
