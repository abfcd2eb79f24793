"""``consortium.toml``: who takes part, and where the coordinator is reached. Startup kits are made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmedlora.exchange.update import check_site_name
from fedmedlora.provision.address import Address, check_host, check_proxy, loopback, parse_address
from fedmedlora.settings import Range, read_table, read_toml, reference_table, setting

AUTHORITY, COORDINATOR = "authority", "coordinator"  # folders beside those of the sites
EVERYWHERE = ("0.0.0.0", "::")
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class CoordinatorPlace:
    """``[coordinator]``: where it is reached and where it listens."""

    address: str = setting("host:port at which the sites reach it, such as coordinator.example:8000", "")
    other_names: tuple[str, ...] = setting(
        "more DNS names and IP addresses of it, for which its certificate holds too", ()
    )
    listen: str = setting(
        "host:port that it listens on (behind a port forwarding, say); empty: the address's port of all of "
        "the machine's addresses, or of loopback where the sites reach it there",
        "",
    )
    control_port: int = setting(
        "port of its own machine alone, on which it is told what to run; 0: the one after the port it "
        "listens on",
        0,
        within=Range(low=0, high=65535),
    )
    certificate_days: int = setting(
        "how long its certificate holds, days; `fedmedlora provision --renew` makes a new one",
        365,
        within=Range(low=1, high=825),
    )

    def __post_init__(self) -> None:
        if not self.address:
            return  # refused by ``Consortium``, which knows whether the table is there at all
        parse_address(self.address)
        for name in self.other_names:
            check_host(name)
        listen, control = self.listens_on(), self.control()
        if listen.port == control.port:
            raise ValueError(
                f"control_port: {control.port} is the port that the sites reach; name another one"
            )

    def listens_on(self) -> Address:
        """Where the sites' connections arrive."""
        if self.listen:
            return parse_address(self.listen)
        reached = parse_address(self.address)
        # Sites on the same machine: a trial, which no other machine is to reach.
        return Address(loopback(reached.host) or EVERYWHERE[0], reached.port)

    def control(self) -> Address:
        """Where the coordinator's own programs speak to it."""
        port = self.listens_on().port
        return Address("127.0.0.1", self.control_port or (port + 1 if port < 65535 else port - 1))

    def hosts(self) -> tuple[str, ...]:
        """Every name and IP address that its certificate must hold for, the sites' one first."""
        named = [parse_address(self.address).host, *map(check_host, self.other_names)]
        own = self.listens_on().host
        named += [own] if own not in EVERYWHERE else []
        return tuple(dict.fromkeys([*named, *THIS_MACHINE]))


@dataclass(frozen=True, slots=True)
class Member:
    """One of ``[[sites]]``."""

    name: str = setting("the site's name, as in the study file: letters, digits, - _ .")
    public_key: str = setting(
        "file of the public key that the site made (`fedmedlora site keygen`) and sent; empty: its key pair "
        "is made here",
        "",
    )
    train: str = setting("file of training notes, as proposed in its site.toml", "train.jsonl")
    test: str = setting("file of test notes, as proposed in its site.toml; empty: none", "")
    proxy: str = setting("web proxy that leads out of the site, http://host:port; empty: none", "")

    def __post_init__(self) -> None:
        try:
            check_site_name(self.name)
        except ValueError as error:
            raise ValueError(f"name: {error}") from error
        if self.name.lower() in (AUTHORITY, COORDINATOR):
            raise ValueError(f"name: {self.name!r} names a folder of its own among the kits; take another")
        if not self.train:
            raise ValueError("train: empty; leave it out, and the site fills it in")
        if self.proxy:
            check_proxy(self.proxy)


@dataclass(frozen=True, slots=True)
class Consortium:
    """A whole ``consortium.toml``. ``folder``, where relative paths begin, is no setting.

    ``allows``: what is proposed as ``[allows]`` of every ``site.toml``; the sites decide.
    """

    name: str = setting("what the consortium is called; its certificates carry the name")
    model: str = setting(
        "base model, as written into every site.toml: a folder at the site, a hub name, or smollm2-135m; "
        "`fedmedlora provision --model` puts the folder into the kits instead",
        "smollm2-135m",
    )
    coordinator: CoordinatorPlace = field(default_factory=CoordinatorPlace)
    sites: tuple[Member, ...] = ()
    allows: dict[str, Any] = field(default_factory=dict)
    folder: Path = field(default=Path(), compare=False)

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable():
            raise ValueError("name: empty, or with control characters; name the consortium in one line")
        if not self.coordinator.address:
            raise ValueError(
                "[coordinator] address: missing; it is host:port at which the sites reach the coordinator, "
                "such as coordinator.example:8000"
            )
        if not self.sites:
            raise ValueError("[[sites]]: none; name every hospital in a table of its own")
        seen: set[str] = set()
        for site in self.sites:
            if (
                site.name.lower() in seen
            ):  # they become folders, and some systems do not tell Mercy from mercy
                raise ValueError(
                    f"[[sites]]: two are named {site.name!r} (upper and lower case count as the same); give "
                    "each a name of its own"
                )
            seen.add(site.name.lower())


def load_consortium(path: Path) -> Consortium:
    """The consortium in ``path``. Raises ``ValueError`` for what is not there, no TOML or not allowed."""
    return read_table(Consortium, read_toml(path), f"{path.name}:", {"folder": path.resolve().parent})


def reference_page() -> str:
    """The tables of ``docs/consortium.md``: every key with its type, default and meaning, as Markdown."""
    lines = []
    for title, cls in (
        ("The file itself", Consortium),
        ("`[coordinator]`", CoordinatorPlace),
        ("`[[sites]]`", Member),
    ):
        lines += [f"### {title}", "", *reference_table(cls), ""]
    return "\n".join(lines)
