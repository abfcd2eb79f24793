"""The log on the disk: one writer at a time adds lines at the end, and each is there before it goes on.

Adding an entry reads the last line alone, takes a lock that a killed process gives back, and writes all its
lines in one go. A writer that is killed, or a disk that is full, loses the entry that was being written and
nothing before it: what is left of its line has no line end, so the next writer cuts it off and says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from fedmedlora.audit.chain import MOST_BYTES, Verified, link, read_line, verify
from fedmedlora.audit.entries import FORMAT, VERSION, Entry, Head, Opened, Repaired
from fedmedlora.durable import flush_folders

LOG = "audit.jsonl"
_BLOCK_BYTES = 1 << 16
_BEGINS = b'{"body":'  # every line


@dataclass(frozen=True, slots=True)
class AuditLog:
    """The log in the file ``path``, which its first entry makes; readable by its owner only."""

    path: Path

    def append(self, *entries: Entry, times: Sequence[str] = ()) -> Head:
        """Add ``entries`` and return the log's head: they are on the disk when this returns.

        ``times``: when each of them was made (``utc_now``), where that was not now.
        Raises ``OSError``, naming the file, where the disk does not take them: none is added then. Raises
        ``ValueError`` where the log's last entry is damaged: nothing is added to a log that was changed.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_name(f".{self.path.name}.lock")):
            is_new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                head = self._append(descriptor, entries, times)
            except OSError as error:
                if error.errno is None:
                    raise
                raise OSError(error.errno, error.strerror, str(self.path)) from error
            finally:
                os.close(descriptor)
            if is_new:
                flush_folders([self.path.parent])  # the new file's name, too
        return head

    def head(self) -> Head | None:
        """The log's head, or None where it holds no entry yet. Raises ``ValueError`` as ``append`` does."""
        if not self.path.exists():
            return None
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _, head, _ = self._end(descriptor)
        finally:
            os.close(descriptor)
        return head

    def _append(self, descriptor: int, entries: Sequence[Entry], times: Sequence[str]) -> Head:
        num_whole, head, torn = self._end(descriptor)
        added: list[Entry] = [] if head else [Opened(FORMAT, VERSION, uuid.uuid4().hex)]
        if torn:
            added.append(Repaired(len(torn), hashlib.sha256(torn).hexdigest()))
        now, lines = utc_now(), []
        made = [*((entry, now) for entry in added), *zip(entries, times or [now] * len(entries), strict=True)]
        for entry, time in made:
            line, head = link(entry, head, time)
            lines.append(line)
        assert head is not None, "the first entry made one"
        try:
            if torn:
                os.ftruncate(descriptor, num_whole)
            _write(descriptor, b"".join(lines))
            os.fsync(descriptor)
        except BaseException:  # Ctrl-C leaves no half line either
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, num_whole)
            raise
        return head

    def _end(self, descriptor: int) -> tuple[int, Head | None, bytes]:
        """(bytes of the whole lines, the head that they make, what stands behind them)."""
        try:
            num_whole, last, torn = _end(descriptor)
            return num_whole, read_line(last).head if last else None, torn
        except ValueError as error:
            raise ValueError(
                f"{self.path}: its end is not as it was written ({error}); nothing is added to it. Look with "
                f"`fedmedlora audit verify {self.path.name}`. Moved away and kept, a new log begins"
            ) from error


def utc_now() -> str:
    """The time as entries carry it: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def verify_file(path: Path, head: Head | str | None = None) -> Verified:
    """See ``chain.verify``. Raises ``OSError`` where the file cannot be read."""
    return verify(lines_of(path), head)


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of ``path``, none longer than a little beyond what an entry may have."""
    with path.open("rb") as file:
        while line := file.readline(MOST_BYTES + 1):
            yield line


def _end(descriptor: int) -> tuple[int, bytes, bytes]:
    """(bytes of the whole lines, the last of them, what stands behind it without a line end).

    Raises ``ValueError`` where what stands there cannot be the beginning of an entry: it is not cut off.
    """
    size = start = os.fstat(descriptor).st_size
    tail = b""
    while start and tail.count(b"\n") < 2:
        if len(tail) > 2 * MOST_BYTES:
            raise ValueError("its last line is longer than an entry may be; is it another file?")
        num_bytes = min(_BLOCK_BYTES, start)
        start -= num_bytes
        tail = os.pread(descriptor, num_bytes, start) + tail
    whole, end, torn = tail.rpartition(b"\n")
    begun = torn.rstrip(b"\0")  # what a file system may leave of a write that a power cut ended
    if not (begun.startswith(_BEGINS) or _BEGINS.startswith(begun)):
        raise ValueError("what stands behind its last entry is not the beginning of another")
    return size - len(torn), whole.rpartition(b"\n")[2] + end, torn


def _write(descriptor: int, data: bytes) -> None:
    """One write; a disk that takes a part of it says on the next one why not the rest."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])


@dataclass(slots=True)
class RunLog:
    """The log of a run, from before the run has its folder.

    What happens until then is written to ``before`` (None: nowhere) at once, and again as the first entries
    of the run's own log once that is there, with the times at which it happened.
    """

    before: Path | None = None
    _held: list[tuple[Entry, str]] = field(default_factory=list)
    _log: AuditLog | None = None

    @property
    def path(self) -> Path | None:
        """The run's own log, or None where it is not there yet."""
        return None if self._log is None else self._log.path

    def open(self, path: Path) -> None:
        """From now on everything goes to ``path``, what was held back first."""
        self._log = AuditLog(path)
        if self._held:
            entries, times = zip(*self._held, strict=True)
            self._log.append(*entries, times=times)
            self._held.clear()

    def append(self, *entries: Entry) -> Head | None:
        """See ``AuditLog.append``. None where there is no file yet."""
        if self._log is not None:
            return self._log.append(*entries)
        times = [utc_now()] * len(entries)
        self._held += zip(entries, times, strict=True)
        return None if self.before is None else AuditLog(self.before).append(*entries, times=times)
