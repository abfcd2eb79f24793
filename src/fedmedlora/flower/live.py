"""What a run says about itself while it goes on: ``live.json``, kept up by those who ask the sites.

Whoever works tells what happens (``live_grid.py``, ``live_sites.py``); nobody waits for it, and a disk that
takes no more is no reason to stop a run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from fedmedlora.live_record import (
    LiveRecord,
    LiveSite,
    SiteState,
    Stage,
    plain,
    read_live,
    utc_now,
    write_live,
)

log = logging.getLogger("fedmedlora")

PAUSE_S = 1.0  # between two writings
HEARTBEAT_S = 5.0  # so often at least, as a sign of life
_FAILED = "its program failed or was lost"
_WILL_NOT = ("refused: ", "will not do what the study asks: ")  # how reasons of absence begin, see grid_sites


class Live:
    """The record of one run, as a block: it is written when the block begins, and says how it ended.

    A site's own words are cut and made printable here. Safe to call from several threads.
    """

    def __init__(
        self,
        study: str,
        names: Sequence[str],
        num_rounds: int,
        write: Callable[[LiveRecord], None],
        before: LiveRecord | None = None,
    ) -> None:
        """``before``: of the same run, which goes on: its sites' bytes and refusals are added to."""
        now = utc_now()
        known = {site.name: site for site in before.sites} if before else {}
        self._sites = {name: _away(known.get(name, LiveSite(name))) for name in names}
        self._record = LiveRecord(plain(study), num_rounds, "waiting for sites", now, now, now, ())
        self._write = write
        self._lock = threading.RLock()
        self._is_new, self._written = True, 0.0
        self._has_failed = False
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="live.json", daemon=True)

    def __enter__(self) -> Live:
        """Write the first record, and one every few seconds from now on."""
        self._put(is_urgent=True)
        self._beats.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Write the last one: finished, or stopped and why."""
        self._ended.set()
        self._beats.join()
        with self._lock:
            if error is None:
                self.stage("finished")
            else:
                told = str(error) if isinstance(error, ValueError) else type(error).__name__
                self._record = replace(self._record, reason=plain(told))
                self.stage("stopped")
            self._put(is_urgent=True)

    def stage(self, stage: Stage, method: str = "") -> None:
        """The run is at ``stage`` now; ``method``: for which one, where that may be another than before."""
        with self._lock:
            before = self._record
            is_other = bool(method) and plain(method) != before.method
            if stage != before.stage or is_other:
                self._at(stage, method if is_other else before.method, 0 if is_other else before.round_num)

    def begin_round(self, method: str, round_num: int, names: Collection[str]) -> None:
        """``names`` are to train. Whoever is late from an earlier round stays so."""
        with self._lock:
            for name, site in self._sites.items():
                if not (site.state == "late" and name in names):
                    state: SiteState = "idle" if site.is_connected else "not connected"
                    self._sites[name] = replace(site, state=state, reason="")
            self._at("training", method, round_num)

    def _at(self, stage: Stage, method: str, round_num: int) -> None:
        self._record = replace(
            self._record,
            stage=stage,
            method=plain(method),
            round_num=round_num,
            since_utc=utc_now(),
            doing="",
        )
        self._put()

    def doing(self, words: str) -> None:
        """The work at hand, in our words; "": none."""
        with self._lock:
            self._record = replace(self._record, doing=plain(words, 200))
            self._put()

    def joined(self, name: str) -> None:
        """A site has said who it is: whatever failed before, it works now."""
        with self._lock:
            if name in self._sites:
                site = _there(self._sites[name])
                has_failed = (site.state, site.reason) == ("absent", _FAILED)
                self._sites[name] = replace(site, state="idle", reason="") if has_failed else site
                self._put()

    def connected(self, names: Collection[str]) -> None:
        """``names`` are connected now, and nobody else."""
        with self._lock:
            for name, site in self._sites.items():
                self._sites[name] = _there(site) if name in names else _gone(site)
            self._put()

    def asked(self, name: str, num_bytes: int) -> None:
        """A question of so many bytes went to a site."""
        with self._lock:
            if name in self._sites:
                site = self._sites[name]
                download_bytes = site.download_bytes + num_bytes
                self._sites[name] = replace(site, state="asked", reason="", download_bytes=download_bytes)
                self._put()

    def answered(self, name: str, num_bytes: int, refused: str = "") -> None:
        """An answer of so many bytes came; ``refused``: why the site will not, in its own words."""
        with self._lock:
            if name in self._sites:
                site = _there(self._sites[name])
                self._sites[name] = replace(
                    site,
                    state="refused" if refused else "answered",
                    reason=plain(refused),
                    upload_bytes=site.upload_bytes + num_bytes,
                    num_refusals=site.num_refusals + bool(refused),
                )
                self._put()

    def put_off(self, name: str, words: str) -> None:
        """A site says that it is not time; it is asked again when it is, unless the round is over by then."""
        self._set(name, "put off", words)

    def failed(self, name: str) -> None:
        """A question came back without an answer; the site may be asked again."""
        self._set(name, "absent", _FAILED)

    def absent(self, name: str, reason: str) -> None:
        """The round goes on without a site."""
        site = self._sites.get(name, LiveSite(name))
        if reason.startswith(_WILL_NOT):
            self._set(name, "refused", reason)
        elif not site.is_connected:
            self._set(name, "not connected", reason)
        elif site.state in ("asked", "late"):  # it works on, for all we know
            self._set(name, "late", reason)
        else:
            self._set(name, "absent", reason)

    def _set(self, name: str, state: SiteState, reason: str) -> None:
        with self._lock:
            if name in self._sites:
                self._sites[name] = replace(self._sites[name], state=state, reason=plain(reason))
                self._put()

    def _put(self, *, is_urgent: bool = False) -> None:
        """Write what there is, now or with the next beat."""
        with self._lock:
            self._is_new = True
            now = time.monotonic()
            if not is_urgent and now - self._written < PAUSE_S:
                return
            self._is_new, self._written = False, now
            self._record = replace(self._record, written_utc=utc_now(), sites=tuple(self._sites.values()))
            try:
                self._write(self._record)
            except (OSError, ValueError) as error:
                if not self._has_failed:
                    log.warning("live.json: not written (%s); the run goes on", error)
                self._has_failed = True

    def _beat(self) -> None:
        while not self._ended.wait(PAUSE_S):
            with self._lock:
                if self._is_new or time.monotonic() - self._written > HEARTBEAT_S:
                    self._put(is_urgent=True)


def live_in(folder: Path, study: str, names: Sequence[str], num_rounds: int, *, resume: bool) -> Live:
    """A ``Live`` that writes ``live.json`` in ``folder``; of a run that goes on, from what is there."""
    before = None
    if resume:
        try:
            before = read_live(folder)
        except ValueError as error:  # what was counted is lost; the run is not
            log.warning("%s", error)
    return Live(study, names, num_rounds, lambda record: write_live(folder, record), before)


def _there(site: LiveSite) -> LiveSite:
    state: SiteState = "idle" if site.state == "not connected" else site.state
    return replace(site, is_connected=True, seen_utc=utc_now(), state=state)


def _gone(site: LiveSite) -> LiveSite:
    """What it was last asked is not taken back: it may work on behind a connection that is broken."""
    state: SiteState = "not connected" if site.state == "idle" else site.state
    return replace(site, is_connected=False, state=state)


def _away(site: LiveSite) -> LiveSite:
    return replace(site, is_connected=False, state="not connected", reason="")
