"""``fedmedlora coordinator start|stop|status``: a SuperLink, kept running, that knows the consortium's sites.

All that it keeps lies in the state folder of ``coordinator.toml``: the database, Flower's own configuration,
the logs, the studies. Nothing is written into anybody's home.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from fedmedlora.as_program import as_program
from fedmedlora.flower.coordinator_file import CoordinatorFile
from fedmedlora.flower.may_pass import in_words, may_pass
from fedmedlora.flower.registry import (
    Change,
    Node,
    Unreachable,
    apply,
    change,
    list_nodes,
    usable_keys,
)
from fedmedlora.flower.state import STATE
from fedmedlora.flower.submit import QUIET, own_path
from fedmedlora.flower.supervise import Kept, Program, Tell, keep_running, told_to_stop
from fedmedlora.only_one import is_held, only_one
from fedmedlora.provision.address import parse_address
from fedmedlora.provision.authority import belongs_to, describe, is_signed_by
from fedmedlora.provision.private_files import is_private, private_folder, write_over

CONNECTION = "consortium"  # what Flower's configuration calls the SuperLink
LOOK_S = 5.0  # how often the folder of keys is looked at
STOP_WAIT_S = 40.0


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """A site as the coordinator sees it. ``since``: when it came or went, ISO 8601; "" for never."""

    name: str
    registered: bool
    connected: bool
    since: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """``pid``: of what keeps SuperLink running; 0 where nothing does. ``answers``: whether SuperLink does."""

    pid: int
    answers: bool
    sites: tuple[SiteStatus, ...] = ()


def start_coordinator(
    file: CoordinatorFile,
    tell: Tell,
    environ: Mapping[str, str] = os.environ,
    work: Callable[[threading.Event], None] | None = None,
) -> None:
    """Run SuperLink until told to stop, or until ``work``, which is done beside it, has ended.

    Raises ``ValueError`` for certificates and keys that do not fit, for a coordinator that is running
    already, and what ``work`` raises.
    """
    refuse_credentials(file, datetime.now().astimezone())
    _usable(file)
    state = private_folder(file.path(file.state))
    with _alone(file), told_to_stop() as stopping:
        home = private_folder(state / "flwr")
        write_over(home / "config.toml", flower_config(file).encode())
        kept = Kept(superlink(file, environ), tell)
        tell(f"sites connect at {file.address}; log: {kept.program.log}; Ctrl-C ends it")
        with working(work, stopping):
            keep_running([kept], stopping, _Registering(file, tell).look)
        tell("the coordinator has stopped")


@contextmanager
def working(work: Callable[[threading.Event], None] | None, stopping: threading.Event) -> Iterator[None]:
    """Within the block ``work`` is done in a thread, which is given ``stopping`` and sets it in the end.
    What it raised is raised behind the block."""
    if work is None:
        yield
        return
    failures: list[BaseException] = []

    def do() -> None:
        try:
            work(stopping)
        except BaseException as error:  # raised again where a person reads it
            failures.append(error)
        finally:
            stopping.set()

    thread = threading.Thread(target=do, name="study")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
    if failures:
        raise failures[0]


def stop_coordinator(file: CoordinatorFile) -> bool:
    """End the coordinator that runs; whether one did. Raises ``ValueError`` where it does not end."""
    pid = running_pid(file)
    if not pid:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_WAIT_S
    while running_pid(file) == pid:
        if time.monotonic() > deadline:
            log = file.path(file.state) / "log" / "superlink.log"
            raise ValueError(f"the coordinator (process {pid}) does not end; SuperLink's log: {log}")
        time.sleep(0.2)
    return True


def _usable(file: CoordinatorFile) -> dict[str, bytes]:
    """Site -> public key. Raises ``ValueError`` where there are files, and none of them can be used."""
    found, faults = usable_keys(file.path(file.sites))
    if faults and not found:
        raise ValueError(faults[0])
    return found


def coordinator_status(file: CoordinatorFile) -> Status:
    """Whether it runs, and which sites are registered and connected. Raises ``ValueError``."""
    sites = _usable(file)
    pid = running_pid(file)
    try:
        nodes = list_nodes(file)
    except Unreachable:
        return Status(pid, False, tuple(SiteStatus(name, False, False) for name in sites))
    return Status(pid, True, statuses(sites, nodes))


def statuses(sites: Mapping[str, bytes], nodes: tuple[Node, ...]) -> tuple[SiteStatus, ...]:
    """Every site of ``sites`` (name -> public key, PEM) as ``nodes`` tell."""
    by_key = {node.public_key: node for node in nodes if node.status != "unregistered"}
    found = []
    for name, public_key in sites.items():
        node = by_key.get(public_key)
        is_online = node is not None and node.status == "online"
        found.append(SiteStatus(name, node is not None, is_online, node.since if node else ""))
    return tuple(found)


def superlink(file: CoordinatorFile, environ: Mapping[str, str]) -> Program:
    """The SuperLink of ``file``."""
    control = file.control_at()
    return Program(
        "SuperLink",
        (
            *as_program("flower.superlink"),
            str(file.listens_on()),
            "--host",
            control.host,
            "--port",
            str(control.port),
            "--ssl-ca-certfile",
            str(file.path(file.ca)),
            "--ssl-certfile",
            str(file.path(file.certificate)),
            "--ssl-keyfile",
            str(file.path(file.key)),
            "--enable-supernode-auth",
            "--database",
            str(file.path(file.state) / "superlink.db"),
            "--disable-runtime-dependency-installation",
        ),
        coordinator_environment(file, environ),
        file.path(file.state) / "log" / "superlink.log",
    )


def coordinator_environment(file: CoordinatorFile, environ: Mapping[str, str]) -> dict[str, str]:
    """In which the coordinator's programs find each other: SuperLink, and `fedmedlora run --superlink`."""
    return {
        **environ,
        **QUIET,
        # SuperLink looks for its own helpers there.
        "PATH": own_path(environ),
        "FLWR_HOME": str(file.path(file.state) / "flwr"),
        STATE: str(file.path(file.state) / "studies"),
        "NO_PROXY": "127.0.0.1,localhost,::1",
    }


def flower_config(file: CoordinatorFile) -> str:
    """Flower's ``config.toml``: where its command line finds this SuperLink."""
    return (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f"address = '{file.control_at()}'\nroot-certificates = '{file.path(file.ca)}'\n"
    )


def refuse_credentials(file: CoordinatorFile, now: datetime) -> None:
    """Raise ``ValueError`` unless certificate, key and authority fit each other, the address and the time."""
    try:
        ca, certificate, key = (
            file.path(name).read_bytes() for name in (file.ca, file.certificate, file.key)
        )
    except OSError as error:
        if may_pass(error):
            raise
        raise ValueError(
            f"{error.filename}: {error.strerror}; it comes with the coordinator's kit"
        ) from error
    if not is_private(file.path(file.key)):
        raise ValueError(
            f"{file.key}: others may read it, and whoever can may pass for the coordinator: chmod 600"
        )
    found = describe(certificate)
    again = "make a new one where the kits were made: `fedmedlora provision ... --renew`"
    if not is_signed_by(certificate, ca):
        raise ValueError(f"{file.certificate}: not signed by {file.ca}; {again}")
    if not belongs_to(certificate, key):
        raise ValueError(f"{file.certificate}: not the certificate of {file.key}; {again}")
    for host in (parse_address(file.address).host, file.control_at().host):
        if host not in found.hosts:
            raise ValueError(
                f"{file.certificate}: does not hold for {host}, but for {', '.join(found.hosts)}; write the "
                "address into consortium.toml and run `fedmedlora provision` again"
            )
    if not found.begins <= now < found.ends:
        raise ValueError(
            f"{file.certificate}: holds from {found.begins:%Y-%m-%d %H:%M} to {found.ends:%Y-%m-%d %H:%M} "
            f"UTC, and now is {now:%Y-%m-%d %H:%M %Z}; correct the clock, or {again}"
        )


def running_pid(file: CoordinatorFile) -> int:
    """Process id of the coordinator that runs with the state of ``file``; 0 where none does."""
    state = file.path(file.state)
    if not is_held(state / "coordinator.lock"):
        return 0
    try:
        return int((state / "coordinator.pid").read_text())
    except (OSError, ValueError):
        return 0


@contextmanager
def _alone(file: CoordinatorFile) -> Iterator[None]:
    state = file.path(file.state)
    told = f"the coordinator is running already (its state: {state})"
    with only_one(state / "coordinator.lock", told):
        write_over(state / "coordinator.pid", str(os.getpid()).encode())
        yield


@dataclass
class _Registering:
    """Makes SuperLink know the keys in the folder of sites: once it is up, and when the folder changes."""

    file: CoordinatorFile
    tell: Tell
    clock: Callable[[], float] = time.monotonic
    due_s: float = 0.0
    done: dict[str, bytes] = field(default_factory=dict)
    told: str = ""
    is_first: bool = True

    def look(self) -> None:
        if self.clock() < self.due_s:
            return
        self.due_s = self.clock() + (0.5 if self.is_first else LOOK_S)
        try:
            sites, faults = usable_keys(self.file.path(self.file.sites))
            if self.is_first or sites != self.done:
                self._register(sites, all_are_here=self.is_first and not faults)
            self._tell_once("; ".join(faults))
        except Unreachable:
            pass  # not up yet, or started again
        except (ValueError, OSError) as error:
            if not (isinstance(error, ValueError) or may_pass(error)):
                raise
            self._tell_once(in_words(error))

    def _register(self, sites: dict[str, bytes], *, all_are_here: bool) -> None:
        # An empty folder is more likely a mistake than the end of the consortium.
        wanted = change(sites, list_nodes(self.file), all_are_here=all_are_here and bool(sites))
        apply(self.file, wanted, sites)
        self.done, self.is_first = sites, False
        self.tell(_words(wanted, sites))

    def _tell_once(self, words: str) -> None:
        if words and words != self.told:
            self.tell(words)
        self.told = words


def _words(done: Change, sites: Mapping[str, bytes]) -> str:
    said = [f"SuperLink is up; {len(sites)} sites: {', '.join(sites) or 'none, sites/ is empty'}"]
    if done.register:
        said.append(f"newly registered: {', '.join(done.register)}")
    if done.withdraw:
        said.append(f"withdrawn for good: {', '.join(node.name for node in done.withdraw)}")
    if done.refused:
        said.append(
            f"not registered, because their keys were withdrawn before: {', '.join(done.refused)} (each "
            "makes a new pair: `fedmedlora site keygen`)"
        )
    return "; ".join(said)
