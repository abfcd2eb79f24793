"""Names that a study gives: each stands for one thing, for it names folders and columns."""

from __future__ import annotations

from collections.abc import Sequence

MAIN = "main"  # the arm that is the study as it stands


def refuse_doubles(seeds: Sequence[int], arms: Sequence[str], sources: Sequence[str]) -> None:
    """Raise ``ValueError`` for a seed, an arm, or a site or cohort (``sources``) that is named twice.

    Names become files, and some file systems do not tell Mercy from mercy.
    """
    if len(set(seeds)) != len(seeds):
        raise ValueError("seeds: name each once")
    lower = [MAIN, *(name.lower() for name in arms)]
    for name in lower:
        if lower.count(name) > 1:
            raise ValueError(f'[[arms]]: two are named {name!r} ("{MAIN}" is the study as it stands)')
    seen = set()
    for name in sources:
        if name.lower() in seen:
            raise ValueError(
                f"[[sites]], [[cohorts]]: two are named {name!r} (upper and lower case count as "
                "the same); give each a name of its own"
            )
        seen.add(name.lower())
