"""``coordinator.toml``: where a coordinator listens, its certificate and keys, where its state is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fedmedlora.provision.address import Address, parse_address
from fedmedlora.settings import read_table, read_toml, setting

_THIS_MACHINE = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class CoordinatorFile:
    """A whole ``coordinator.toml``. ``folder``, where relative paths begin, is no setting."""

    address: str = setting("host:port at which the sites reach the coordinator")
    listen: str = setting("host:port where their connections arrive; 0.0.0.0 is every address of the machine")
    control: str = setting("127.0.0.1:port: where the coordinator's own programs speak to it")
    ca: str = setting("file of the authority's certificate", "ca.crt")
    certificate: str = setting("file of the coordinator's certificate", "server.crt")
    key: str = setting("file of its private key", "server.key")
    sites: str = setting("folder of the sites' public keys, NAME.pub", "sites")
    state: str = setting("folder of its database, logs and studies", "state")
    folder: Path = field(default=Path(), compare=False)

    def __post_init__(self) -> None:
        for name, text in (("address", self.address), ("listen", self.listen), ("control", self.control)):
            try:
                parse_address(text)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        if self.control_at().host not in _THIS_MACHINE:
            raise ValueError(
                f"control: {self.control!r} could be reached from other machines, and who reaches it tells "
                "every site what to run; write 127.0.0.1:port"
            )
        if self.control_at().port == self.listens_on().port:
            raise ValueError(f"control: {self.control!r} has the port of listen; take another one")

    def path(self, name: str) -> Path:
        """A path of the file as one that can be opened from anywhere."""
        return (self.folder / name).resolve()

    def listens_on(self) -> Address:
        """Where the sites' connections arrive."""
        return parse_address(self.listen)

    def control_at(self) -> Address:
        """Where it is told what to run."""
        return parse_address(self.control)


def load_coordinator_file(path: Path) -> CoordinatorFile:
    """The coordinator of ``path``. Raises ``ValueError`` for what is not there, no TOML or not allowed."""
    return read_table(CoordinatorFile, read_toml(path), f"{path.name}:", {"folder": path.resolve().parent})
