"""``site.toml``: what a site keeps to itself. Its notes, its copy of the base model, and what it allows.

The file lies at the site and is named by the SuperNode's own node configuration; nothing in it ever comes
from or goes to the coordinator. Paths in it are relative to its folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from fedmedlora.exchange.update import check_site_name
from fedmedlora.flower.allows import Allows, refuse_no_hash
from fedmedlora.provision.address import check_proxy, parse_address
from fedmedlora.settings import read_table, read_toml, reference_table, setting
from fedmedlora.study_tables import Model

NO_TURNS = "none"


@dataclass(frozen=True, slots=True)
class Coordinator:
    """``[coordinator]``: whom this site joins, and what proves either to the other. Startup kits fill it."""

    address: str = setting(
        "host:port of the coordinator; empty: this site is not started by `fedmedlora site start`", ""
    )
    ca: str = setting("file of the authority's certificate, by which the coordinator is known", "ca.crt")
    ca_fingerprint: str = setting("sha256 of that certificate; empty: it is not compared", "")
    key: str = setting("file of this site's private key", "site.key")
    key_fingerprint: str = setting(
        "SHA256:... of its public half, as `ssh-keygen -lf` prints it; empty: it is not compared", ""
    )
    model_hash: str = setting(
        "hash of the consortium's base model: what [allows] base_model is where that is empty; empty: the "
        "kit came without a model, and none is fixed",
        "",
    )
    version: str = setting(
        "version of fedmedlora that the consortium runs, for `fedmedlora site check`; empty: any", ""
    )
    bundle: str = setting(
        "sha256 of the one file of the app bundle, fedmedlora/flower/app/pyproject.toml of the installed "
        "package; empty: whatever is installed. No bundle that says anything else is ever unpacked",
        "",
    )
    proxy: str = setting("web proxy that leads out of the site, http://host:port; empty: none is used", "")

    def __post_init__(self) -> None:
        if self.address:
            parse_address(self.address)
        if self.proxy:
            check_proxy(self.proxy)
        refuse_no_hash("model_hash", self.model_hash)


@dataclass(frozen=True, slots=True)
class SiteFile:
    """A whole ``site.toml``. ``folder``, where relative paths begin, is no setting."""

    name: str = setting("the site's name, as in the study file: letters, digits, - _ .")
    train: str = setting("file of training notes, JSONL or BRAT folder")
    test: str = setting("file of test notes; empty: adapters are not measured here", "")
    state: str = setting("folder of what the site keeps between messages", "state")
    turn: str = setting(
        "file that sites on one machine lock to take turns, so that one of them at a time works; empty: "
        'one for all sites of this user; "none": no turns',
        "",
    )
    model: Model = field(default_factory=Model)
    coordinator: Coordinator = field(default_factory=Coordinator)
    allows: Allows = field(default_factory=Allows)
    folder: Path = field(default=Path(), compare=False)

    def __post_init__(self) -> None:
        try:
            check_site_name(self.name)
        except ValueError as error:
            raise ValueError(f"name: {error}") from error
        if not self.train:
            raise ValueError("train: empty; name a file of training notes")
        if not self.allows.base_model:  # whoever reads [allows] finds what the kit fixes
            pinned = replace(self.allows, base_model=self.coordinator.model_hash)
            object.__setattr__(self, "allows", pinned)

    def path(self, name: str) -> Path:
        """A path of the file as one that can be opened."""
        return self.folder / name

    def model_name(self) -> str:
        """``model.name`` as a loader takes it: the folder's path where there is one, else as written."""
        folder = self.path(self.model.name)
        return str(folder.resolve()) if folder.is_dir() else self.model.name


def load_site_file(path: Path) -> SiteFile:
    """The site in ``path``. Raises ``ValueError`` for what is not there, not TOML or not allowed in it."""
    return read_table(SiteFile, read_toml(path), f"{path.name}:", {"folder": path.resolve().parent})


def reference_page() -> str:
    """The tables of ``docs/flower.md``: every key with its type, default and meaning, as Markdown."""
    lines = []
    for title, cls in (
        ("The file itself", SiteFile),
        ("`[model]`", Model),
        ("`[coordinator]`", Coordinator),
        ("`[allows]`", Allows),
    ):
        lines += [f"### {title}", "", *reference_table(cls), ""]
    return "\n".join(lines)
