"""Keep programs running: start them, start them again when they end, end them cleanly when told to.

What is kept running is somebody else's business: a ``Program`` is a command, its environment and its log.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from fedmedlora.as_program import as_program
from fedmedlora.flower.may_pass import in_words, may_pass

POLL_S = 0.5
STOP_S = 20.0  # a SuperNode tells its SuperLink that it goes, and waits for its own helpers
MAX_LOG_BYTES = 20_000_000

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Program:
    """A program to keep running. ``name`` is for messages; ``log`` gets all that it writes."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a program is started again, seconds: twice as long each time, up to a limit.

    A program that ran for ``steady_s`` counts as well, and begins at ``first_s`` again.
    """

    first_s: float = 1.0
    most_s: float = 30.0
    steady_s: float = 60.0

    def wait_s(self, num_ends: int) -> float:
        """The wait after the program ended ``num_ends`` times in a row, from 1."""
        return min(self.most_s, self.first_s * 2.0 ** min(num_ends - 1, 30))


@dataclass
class Kept:
    """One program that is kept running. Call ``tick`` often, from the thread that lives longest.

    ``num_starts``: how often it was started. ``log_from``: where in its log the last start begins, bytes.
    """

    program: Program
    tell: Tell
    backoff: Backoff = field(default_factory=Backoff)
    clock: Callable[[], float] = time.monotonic
    num_starts: int = 0
    log_from: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _began_s: float = 0.0
    _num_ends: int = 0
    _due_s: float = -1.0

    @property
    def is_running(self) -> bool:
        """Whether the program runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The program's process id; 0 where it does not run."""
        return self._process.pid if self._process is not None and self.is_running else 0

    def tick(self) -> None:
        """Notice whether the program has ended, and start it when that is due; later, where the machine
        cannot (a full disk under its log)."""
        now = self.clock()
        if self._process is not None and self._process.poll() is not None:
            self._ended(self._process, now)
        if self._process is None and now >= self._due_s:
            try:
                self._start(now)
            except OSError as error:
                if not may_pass(error):
                    raise
                self._num_ends += 1
                wait_s = self.backoff.wait_s(self._num_ends)
                self._due_s = now + wait_s
                why = in_words(error)
                self.tell(f"{self.program.name} cannot be started: {why}; again in {wait_s:.0f} s")

    def stop(self, grace_s: float = STOP_S) -> None:
        """End the program and whatever it started, gently at first."""
        process, self._process = self._process, None
        if process is None:
            return
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace_s)
        _signal_group(process, signal.SIGKILL)
        process.wait()

    def _start(self, now: float) -> None:
        log = self.program.log
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
        with log.open("ab") as out:
            self.log_from = out.tell()
            log.chmod(0o600)
            self._process = subprocess.Popen(
                # The leash ends it should this process be killed without a chance to end it.
                [*as_program("flower.leash"), *self.program.command],
                env=dict(self.program.environment),
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # so that Ctrl-C reaches it by way of ``stop``, and its children too
            )
        self._began_s = now
        self.num_starts += 1

    def _ended(self, process: subprocess.Popen[bytes], now: float) -> None:
        _signal_group(process, signal.SIGKILL)  # helpers that it left behind
        ran_s = now - self._began_s
        self._num_ends = 1 if ran_s >= self.backoff.steady_s else self._num_ends + 1
        wait_s = self.backoff.wait_s(self._num_ends)
        self._process, self._due_s = None, now + wait_s
        self.tell(
            f"{self.program.name} ended with status {process.returncode} after {ran_s:.0f} s; started again "
            f"in {wait_s:.0f} s (its log: {self.program.log})"
        )


def keep_running(
    kept: Sequence[Kept], stopping: threading.Event, beside: Callable[[], None] = lambda: None
) -> None:
    """Keep all of ``kept`` running until ``stopping`` is set, and then end them, the last one first.

    ``beside``: called every half second or so; what it raises ends the programs too.
    """
    try:
        while not stopping.is_set():
            for one in kept:
                one.tick()
            beside()
            stopping.wait(POLL_S)
    finally:
        for one in reversed(kept):
            one.stop()


@contextlib.contextmanager
def told_to_stop() -> Iterator[threading.Event]:
    """Within the block SIGTERM, Ctrl-C and a closed terminal set the event, and do nothing else.

    A thread sets it: a handler that did might have interrupted who holds the event's own lock, just before it
    waits or just after, and would wait for that lock for good.
    """
    stopping, told = threading.Event(), SimpleQueue[bool]()  # a handler may put into one of these

    def set_when_told() -> None:
        if told.get():
            stopping.set()

    # `nohup` ignores a closed terminal, and goes on doing so.
    numbers = [signal.SIGTERM, signal.SIGINT]
    numbers += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
    setting = threading.Thread(target=set_when_told, name="told to stop", daemon=True)
    setting.start()
    before = {number: signal.signal(number, lambda *_: told.put(True)) for number in numbers}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        told.put(False)
        setting.join()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
