"""How much each site counts before a rule has looked at what it sent: by its size, or all the same."""

from __future__ import annotations

from collections.abc import Sequence

from fedmedlora.aggregation.mean import alike, by_size
from fedmedlora.exchange.update import SiteUpdate

WEIGH_MEANING = (
    '"size": by supervised target tokens, as each site says them itself; "equal": every site that trained '
    "the same, whatever it says"
)
_WAYS = {"size": by_size, "equal": alike}


def shares(weigh: str, updates: Sequence[SiteUpdate]) -> dict[str, float]:
    """Site -> share, sorted by site; 0 for a site that trained on nothing. Errors as in ``check_updates``."""
    return _WAYS[weigh](updates)


def check_weigh(rule: str, weigh: object) -> None:
    """Raise ValueError unless ``weigh`` is a way that there is."""
    if not isinstance(weigh, str) or weigh not in _WAYS:
        allowed = " or ".join(f'"{way}"' for way in _WAYS)
        raise ValueError(f"rule {rule}: weigh must be {allowed}, got {str(weigh)[:40]!r}")


def check_count(rule: str, name: str, value: object, least: int) -> None:
    """Raise ValueError unless the setting ``name`` is a whole number from ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"rule {rule}: {name} must be a whole number, {least} or more, got {value!r}")
