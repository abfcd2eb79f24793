"""The authority's certificate and the site's key pair: readable, unchanged, and the key nobody else's."""

from __future__ import annotations

from fedmedlora.flower.checks.finding import Finding
from fedmedlora.flower.site_file import SiteFile
from fedmedlora.provision.authority import describe, same_fingerprint
from fedmedlora.provision.keys import fingerprint, public_of
from fedmedlora.provision.private_files import is_private

AUTHORITY, KEY = "authority", "key"
_ASK = "ask the consortium for ca.crt again, and compare fingerprints by telephone"


def check_authority(site: SiteFile) -> Finding:
    """The certificate by which the coordinator is known, and whether it is the one that the kit came with."""
    path = site.path(site.coordinator.ca)
    try:
        found = describe(path.read_bytes()).fingerprint
    except OSError as error:
        return Finding(AUTHORITY, False, f"{path}: {error.strerror}", _ASK)
    except ValueError as error:
        return Finding(AUTHORITY, False, f"{path}: {error}", _ASK)
    wanted = site.coordinator.ca_fingerprint
    if wanted and not same_fingerprint(found, wanted):
        return Finding(
            AUTHORITY,
            False,
            f"{path.name} has fingerprint {found}, and site.toml says {wanted}",
            f"one of the two was exchanged: {_ASK}",
        )
    return Finding(
        AUTHORITY,
        True,
        f"fingerprint {found}",
        ""
        if wanted
        else "site.toml names no ca_fingerprint: compare this one by telephone and write it there",
    )


def check_key(site: SiteFile) -> Finding:
    """The private key, by which the coordinator knows this site."""
    path = site.path(site.coordinator.key)
    if not path.exists():
        return Finding(
            KEY,
            False,
            f"{path}: not there",
            "put the private key there that belongs to the public one which the consortium has; if there is "
            "none, make a pair with `fedmedlora site keygen` and send the file that ends in .pub",
        )
    try:
        own = fingerprint(public_of(path.read_bytes()))
    except OSError as error:
        return Finding(KEY, False, f"{path}: {error.strerror}", "let the account that runs the site read it")
    except ValueError as error:
        return Finding(KEY, False, f"{path}: {error}", "put the private key of this site's pair there")
    if not is_private(path):
        return Finding(
            KEY, False, f"{path}: other accounts may read or write it", f"chmod 600 {path}, as for any secret"
        )
    wanted = site.coordinator.key_fingerprint
    if wanted and own != wanted:
        return Finding(
            KEY,
            False,
            f"{path.name} has fingerprint {own}, and site.toml says {wanted}",
            "put the right key there; a new pair is to be sent to the consortium first (its .pub file)",
        )
    return Finding(KEY, True, f"fingerprint {own}")
