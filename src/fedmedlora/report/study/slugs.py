"""Users' names as parts of identifiers and of file names."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LONGEST = 40


def slugs(names: Iterable[str]) -> dict[str, str]:
    """By name: small letters, digits and hyphens only; where two names would be the same, with a number."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST].strip("-") or "unnamed"
        number, unique = 2, slug
        while unique in found.values():
            number, unique = number + 1, f"{slug}-{number}"
        found[name] = unique
    return found
