"""``fedmedlora site check``: everything that can be wrong before a site's first round, looked at in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from fedmedlora.corpora.schema import CLINICAL, Schema
from fedmedlora.flower.checks.base_model import check_base_model
from fedmedlora.flower.checks.connection import check_address, check_certificate, check_clock, route_of
from fedmedlora.flower.checks.credentials import check_authority, check_key
from fedmedlora.flower.checks.finding import Finding
from fedmedlora.flower.checks.machine import check_disk, check_gpu, check_memory
from fedmedlora.flower.checks.notes import check_notes
from fedmedlora.flower.checks.programs import check_programs, check_versions
from fedmedlora.flower.checks.state_folder import check_state
from fedmedlora.flower.site_file import SiteFile, load_site_file
from fedmedlora.model.devices import visible_gpus


def check_site(path: Path, schema: Schema = CLINICAL) -> Iterator[Finding]:
    """What each check of the site in ``path`` found, one after the other, quick ones first.

    ``schema``: of the notes. Raises ``ValueError`` where ``site.toml`` itself is not in order.
    """
    site = load_site_file(path)
    yield check_programs()
    yield check_versions(site)
    yield check_state(site)
    yield check_disk(site)
    yield check_memory()
    yield from _of_the_connection(site, lambda: datetime.now(UTC))
    yield from check_notes(site, schema)
    yield check_base_model(site)
    yield check_gpu(visible_gpus())


def _of_the_connection(site: SiteFile, clock: Callable[[], datetime]) -> Iterator[Finding]:
    if not site.coordinator.address:
        yield Finding(
            "coordinator",
            False,
            "site.toml has no [coordinator] address",
            "take the table from the startup kit's site.toml (docs/consortium.md)",
        )
        return
    authority = check_authority(site)
    yield authority
    yield check_key(site)
    route = route_of(site)
    reached = check_address(route)
    yield reached
    # Without a known authority or an open way, what follows would only repeat it.
    if authority.ok and reached.ok:
        certificate = site.path(site.coordinator.ca).read_bytes()
        yield check_certificate(route, certificate, clock())
        yield check_clock(route, certificate, clock)
