"""Who is there in a round, and who takes part in it: all of those, or a share of them drawn at random."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from fedmedlora.corpora.draw import seeded


def participants(
    names: Sequence[str],
    round_num: int,
    *,
    share: float = 1.0,
    away: Mapping[str, Collection[int]] | None = None,
    seed: int = 0,
) -> tuple[str, ...]:
    """Those of ``names`` that are asked in round ``round_num`` (from 1), in their order.

    Of the sites that are there, ``share`` (above 0, at most 1) rounded up are drawn by ``seed`` and round;
    McMahan et al., https://arxiv.org/abs/1602.05629, algorithm 1 (their C). ``away``: site -> rounds that it
    misses. Raises ``ValueError`` where everybody is away.
    """
    there = sites_there(names, round_num, away or {})
    if not there:
        raise ValueError(f"round {round_num}: every site is away (absent_rounds); a round needs one at least")
    num = max(1, math.ceil(share * len(there) - 1e-9))
    # Drawn out of the sorted names: the order of the sites in the study file plays no role.
    drawn = set(seeded(f"{seed}/participants/{round_num}").sample(sorted(there), num))
    return tuple(name for name in there if name in drawn)


def sites_there(names: Sequence[str], round_num: int, away: Mapping[str, Collection[int]]) -> tuple[str, ...]:
    """Those of ``names`` that are not away in round ``round_num``; whoever is can be asked nothing."""
    return tuple(name for name in names if round_num not in away.get(name, ()))


def holders(
    names: Sequence[str],
    round_num: int,
    takes_part: Callable[[int], tuple[str, ...]],
    *,
    begin_alike: bool,
) -> tuple[str, ...]:
    """Those of ``names`` that hold the adapter which the round before ``round_num`` began with.

    Whoever took part in it; before the first round everybody, if sites make the untrained adapter themselves
    (``begin_alike``). Only they can be sent a change of it. All others are sent the whole adapter.
    """
    if round_num == 1:
        return tuple(names) if begin_alike else ()
    before = takes_part(round_num - 1)
    return tuple(name for name in names if name in before)


def last_rounds(
    names: Sequence[str], round_num: int, takes_part: Callable[[int], tuple[str, ...]]
) -> dict[str, int]:
    """Of each of ``names`` the last round before ``round_num`` that it took part in; 0: none yet."""
    found = dict.fromkeys(names, 0)
    missing = set(names)
    for before in range(round_num - 1, 0, -1):
        if not missing:
            break
        there = missing.intersection(takes_part(before))
        found |= dict.fromkeys(there, before)
        missing -= there
    return found
