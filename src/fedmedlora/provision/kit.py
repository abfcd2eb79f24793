"""``fedmedlora provision``: a folder for the coordinator, one for each site, and the authority that signs.

    kits/authority/    ca.key, ca.crt            never leaves the machine where kits are made
    kits/coordinator/  ca.crt, server.crt, server.key, sites/NAME.pub, coordinator.toml, start.sh, README.md
    kits/NAME/         ca.crt, site.key, site.pub, site.toml, start.sh, README.md, perhaps wheels/, model/

A second run adds what is missing. It overwrites no private key and no settings file that somebody edited, and
says what it kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fedmedlora.provision.authority import (
    Authority,
    belongs_to,
    describe,
    is_signed_by,
    new_authority,
    new_key,
    server_certificate,
)
from fedmedlora.provision.consortium import AUTHORITY, COORDINATOR, Consortium, Member
from fedmedlora.provision.keys import check_public, fingerprint, new_key_pair, public_of
from fedmedlora.provision.kit_texts import (
    KitFacts,
    coordinator_readme,
    coordinator_toml,
    site_readme,
    site_toml,
    start_script,
)
from fedmedlora.provision.payload import Payload, place_payload
from fedmedlora.provision.private_files import OWNER_PROGRAM, private_folder, write_new, write_over

RENEW_BEFORE = timedelta(days=30)
_RECORD = "written.json"  # what settings files looked like when they were written, to notice edited ones


@dataclass(frozen=True, slots=True)
class Line:
    """What happened to one file of the kits: ``made``, ``kept``, ``changed``; ``note``: something to do."""

    what: str
    where: str
    why: str = ""


@dataclass
class _Kits:
    """The folder of all kits while they are made. ``edited``: hashes of settings files as written."""

    out: Path
    lines: list[Line] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)

    def tell(self, what: str, where: str, why: str = "") -> None:
        self.lines.append(Line(what, where, why))

    def key(self, where: str, content: bytes) -> None:
        """A private key, at a place where none is."""
        assert write_new(self.out / where, content), f"{where} is there already"
        self.tell("made", where)

    def text(self, where: str, content: bytes, mode: int = 0o600) -> None:
        """A file of ours: written over."""
        is_new = not (self.out / where).exists()
        if write_over(self.out / where, content, mode):
            self.tell("made" if is_new else "changed", where)

    def settings(self, where: str, content: str) -> None:
        """A file that its owner may edit: written over as long as nobody has."""
        path, digest = self.out / where, hashlib.sha256(content.encode()).hexdigest()
        beside = path.with_name(f"{path.name}.new")
        here = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else digest
        if here not in (digest, self.written.get(where)):
            write_over(beside, content.encode())
            self.tell("kept", where, f"it was edited; what would be written now is {beside.name}")
            return
        self.text(where, content.encode())
        self.written[where] = digest


def provision(
    consortium: Consortium,
    out: Path,
    now: datetime,
    *,
    renew: bool = False,
    payload: Payload | None = None,
) -> tuple[Line, ...]:
    """Make the kits of ``consortium`` in ``out``, or add what is missing there. Returns what happened.

    ``now``: the time, UTC. ``renew``: a new certificate for the coordinator, by the same authority.
    Raises ``ValueError`` for a public key that is none or that two sites share, for an authority of which a
    part is missing, and for a payload that holds no wheel or no model; nothing is written then.
    """
    sent = {site.name: _sent_key(consortium, site) for site in consortium.sites if site.public_key}
    there = {site.name: sent.get(site.name) or _key_there(out, site.name) for site in consortium.sites}
    _refuse_shared({name: public for name, public in there.items() if public})
    payload = payload or Payload()
    payload.check()
    kits = _Kits(private_folder(out))
    authority = _authority(kits, consortium.name, now)
    kits.written = _read_record(out / AUTHORITY / _RECORD)
    facts = KitFacts(
        describe(authority.certificate).fingerprint,
        payload.version(),
        payload.install(),
        payload.model_name() or consortium.model,
        payload.model_hash,
        payload.bundle(),
        payload.python(),
        has_wheels=payload.wheelhouse is not None,
    )
    ends = _coordinator(kits, consortium, authority, now, renew)
    publics = {site.name: _site(kits, site, there[site.name]) for site in consortium.sites}
    for site in consortium.sites:
        public = publics[site.name]
        kits.text(f"{COORDINATOR}/sites/{site.name}.pub", public)
        folder, own = site.name, fingerprint(public)
        kits.text(f"{folder}/ca.crt", authority.certificate)
        kits.text(f"{folder}/start.sh", start_script("site").encode(), OWNER_PROGRAM)
        kits.settings(f"{folder}/site.toml", site_toml(consortium, site, facts, own))
        readme = site_readme(consortium, site, facts, own, key_is_here=not site.public_key)
        kits.text(f"{folder}/README.md", readme.encode())
    fingerprints = {name: fingerprint(public) for name, public in publics.items()}
    kits.text(f"{COORDINATOR}/README.md", coordinator_readme(consortium, facts, fingerprints, ends).encode())
    for name in (COORDINATOR, *publics):
        for where in place_payload(payload, out / name):
            kits.tell("made", f"{name}/{where}")
    _note_leftovers(kits, publics)
    write_over(out / AUTHORITY / _RECORD, (json.dumps(kits.written, indent=1) + "\n").encode())
    return tuple(kits.lines)


def _authority(kits: _Kits, name: str, now: datetime) -> Authority:
    folder = private_folder(kits.out / AUTHORITY)
    certificate, key = folder / "ca.crt", folder / "ca.key"
    if certificate.exists() != key.exists():
        missing = key if certificate.exists() else certificate
        raise ValueError(
            f"{missing}: missing, while the other half of the authority is there. Bring it back: a new "
            f"authority would make every kit invalid (to begin anew all the same, remove {folder})"
        )
    if not key.exists():
        made = new_authority(name, new_key(), now)
        kits.key(f"{AUTHORITY}/ca.key", made.key)
        kits.text(f"{AUTHORITY}/ca.crt", made.certificate)
        return made
    kits.tell("kept", f"{AUTHORITY}/ca.key")
    found = Authority(certificate.read_bytes(), key.read_bytes())
    try:
        fits = belongs_to(found.certificate, found.key)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}; bring ca.crt and ca.key back as they were") from error
    if not fits:
        raise ValueError(f"{folder}: ca.key is not the key of ca.crt; bring them back as they were")
    return found


def _coordinator(
    kits: _Kits, consortium: Consortium, authority: Authority, now: datetime, renew: bool
) -> datetime:
    """The coordinator's kit but for what depends on the sites. Returns when its certificate ends."""
    folder = private_folder(kits.out / COORDINATOR)
    private_folder(folder / "sites")
    key, certificate = folder / "server.key", folder / "server.crt"
    if key.exists():
        kits.tell("kept", f"{COORDINATOR}/server.key")
    else:
        kits.key(f"{COORDINATOR}/server.key", new_key())
    place = consortium.coordinator
    reason = _why_new(certificate, key.read_bytes(), authority, place.hosts(), now, renew)
    if reason:
        is_new = not certificate.exists()
        made = server_certificate(authority, key.read_bytes(), place.hosts(), now, place.certificate_days)
        write_over(certificate, made)
        kits.tell("made" if is_new else "changed", f"{COORDINATOR}/server.crt", "" if is_new else reason)
    else:
        kits.tell("kept", f"{COORDINATOR}/server.crt")
    ends = describe(certificate.read_bytes()).ends
    if ends - now < min(RENEW_BEFORE, timedelta(days=place.certificate_days) / 2):
        kits.tell(
            "note", f"{COORDINATOR}/server.crt", f"ends on {ends:%Y-%m-%d}; make a new one with --renew"
        )
    kits.text(f"{COORDINATOR}/ca.crt", authority.certificate)
    kits.text(f"{COORDINATOR}/start.sh", start_script("coordinator").encode(), OWNER_PROGRAM)
    kits.settings(f"{COORDINATOR}/coordinator.toml", coordinator_toml(consortium))
    return ends


def _why_new(
    certificate: Path, key: bytes, authority: Authority, hosts: tuple[str, ...], now: datetime, renew: bool
) -> str:
    """Why the coordinator needs a new certificate, or "" where the one that it has will do."""
    if not certificate.exists():
        return "there was none"
    found = certificate.read_bytes()
    if not is_signed_by(found, authority.certificate):
        return "the old one is of another authority"
    if not belongs_to(found, key):
        return "the old one is of another key"
    if set(hosts) - set(describe(found).hosts):
        return "the old one does not hold for the coordinator's address"
    if describe(found).ends <= now:
        return "the old one has ended"
    return "renewed" if renew else ""


def _key_there(out: Path, name: str) -> bytes | None:
    """The public key of a site that did not send one, as an earlier run made it; None: there is none yet."""
    private, known = out / name / "site.key", out / COORDINATOR / "sites" / f"{name}.pub"
    path = private if private.exists() else known
    if not path.exists():
        return None
    try:
        return (public_of if path == private else check_public)(path.read_bytes(), name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _site(kits: _Kits, site: Member, there: bytes | None) -> bytes:
    """The site's folder with its key pair. Returns its public key. ``there``: the one that it has; None:
    a pair is made."""
    folder = private_folder(kits.out / site.name)
    private, public = folder / "site.key", folder / "site.pub"
    known = kits.out / COORDINATOR / "sites" / f"{site.name}.pub"
    found = there
    if found is None:
        pair = new_key_pair(site.name)
        kits.key(f"{site.name}/site.key", pair.private)
        found = pair.public
    elif site.public_key:
        if private.exists() and not belong(private, found, site.name):
            kits.tell(
                "note",
                f"{site.name}/site.key",
                "not the private half of the public key that consortium.toml names, so it is not used; "
                "remove it",
            )
    elif private.exists():
        kits.tell("kept", f"{site.name}/site.key")
    else:
        kits.tell(
            "note",
            f"{site.name}/site.key",
            "made earlier and no longer here (handed over?): not made again. For a new pair, remove "
            f"{COORDINATOR}/sites/{site.name}.pub first",
        )
    if known.exists() and fingerprint(known.read_bytes()) != fingerprint(found):
        kits.tell(
            "note",
            f"{COORDINATOR}/sites/{site.name}.pub",
            "another key than before; the coordinator withdraws the old one for good when it gets this file",
        )
    kits.text(f"{site.name}/{public.name}", found)
    return found


def belong(private: Path, public: bytes, name: str) -> bool:
    """Whether the key in ``private`` is the other half of ``public``."""
    try:
        return fingerprint(public_of(private.read_bytes(), name)) == fingerprint(public)
    except ValueError:
        return False


def _sent_key(consortium: Consortium, site: Member) -> bytes:
    path = consortium.folder / site.public_key
    try:
        return check_public(path.read_bytes(), site.name)
    except OSError as error:
        raise ValueError(
            f"[[sites]] {site.name} public_key: {path}: {error.strerror}; the site makes it with `fedmedlora "
            f"site keygen --out site-kit --name {site.name}`, and sends site-kit/site.pub"
        ) from error
    except ValueError as error:
        raise ValueError(f"[[sites]] {site.name} public_key: {path}: {error}") from error


def _refuse_shared(publics: Mapping[str, bytes]) -> None:
    owner: dict[str, str] = {}
    for name, public in publics.items():
        other = owner.setdefault(fingerprint(public), name)
        if other != name:
            raise ValueError(
                f"sites {other} and {name} have the same public key; a key stands for one site: let one of "
                "them make a new pair (`fedmedlora site keygen`)"
            )


def _note_leftovers(kits: _Kits, publics: Mapping[str, Any]) -> None:
    for path in sorted((kits.out / COORDINATOR / "sites").glob("*.pub")):
        if path.stem not in publics:
            kits.tell(
                "note",
                f"{COORDINATOR}/sites/{path.name}",
                f"{path.stem} is no longer in consortium.toml; remove the file, and the coordinator's next "
                "start withdraws the key for good",
            )


def _read_record(path: Path) -> dict[str, str]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # then every settings file counts as edited, and is kept
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
