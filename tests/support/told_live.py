"""A ``Live`` of three sites, every record of which is kept."""

from fedmedlora.flower.live import Live
from fedmedlora.live_record import LiveRecord

SITES = ("lakeside", "northgate", "stonebridge")


def made(kept: list[LiveRecord]) -> Live:
    """Its records go into ``kept``; each as it changes, where ``live.PAUSE_S`` is 0."""
    return Live("A study", SITES, 2, kept.append)


def state_of(kept: list[LiveRecord], name: str = "stonebridge") -> tuple[str, str, bool]:
    """(state, reason, whether it is connected) of a site as it was told last."""
    site = next(one for one in kept[-1].sites if one.name == name)
    return site.state, site.reason, site.is_connected
